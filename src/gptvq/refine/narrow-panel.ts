import { blocksPerRow, centroidsOf, columnGroupsOf, vectorsPerRow } from '../../packing/vq-layer.js'
import { type PanelState, type RowPanel, rowsOfGroup } from '../walk/row-panel.js'

/** Some row groups of a panel, as a panel of their own. */
export interface NarrowedPanel {
  readonly panel: RowPanel
  readonly state: PanelState
}

/**
 * Copies some row groups of a panel, in rising order, so that the others cost nothing any more. The residual moves
 * together within the arrays of `state`, which is of no use afterwards.
 */
export function narrowPanel(panel: RowPanel, state: PanelState, groups: readonly number[]): NarrowedPanel {
  const { layout, scales } = panel
  const { cols, rowsPerGroup } = layout
  const heights = groups.map((group) => heightOf(panel, group))
  const rows = heights.reduce((sum, height) => sum + height, 0)
  const blocks = rows * blocksPerRow(layout)
  const part: RowPanel = {
    ...panel,
    layout: { ...layout, rows },
    indices: new Uint16Array(rows * vectorsPerRow(layout)),
    codebooks: new Float32Array(groups.length * codebookValues(panel)),
    scales: scales && { ...scales, codes: new Uint8Array(blocks), values: new Float32Array(blocks) },
  }
  for (const [to, from] of groups.entries()) {
    copyGroup(panel, from, part, to)
    const at = from * rowsPerGroup * cols
    state.residual.copyWithin(to * rowsPerGroup * cols, at, at + heights[to] * cols)
  }
  const residual = state.residual.subarray(0, rows * cols)
  return {
    panel: part,
    state: { residual, losses: Float64Array.from(groups, (group) => state.losses[group]) },
  }
}

/** Copies the indices, codebooks and scales of a row group of one panel to a row group of another. */
export function copyGroup(source: RowPanel, from: number, target: RowPanel, to: number): void {
  const { layout } = source
  const values = codebookValues(source)
  target.codebooks.set(source.codebooks.subarray(from * values, (from + 1) * values), to * values)
  const height = heightOf(source, from)
  const copyRows = <T extends Uint8Array | Uint16Array | Float32Array>(a: T, b: T, perRow: number) => {
    const at = from * layout.rowsPerGroup * perRow
    b.set(a.subarray(at, at + height * perRow), to * layout.rowsPerGroup * perRow)
  }
  copyRows(source.indices, target.indices, vectorsPerRow(layout))
  if (source.scales && target.scales) {
    copyRows(source.scales.codes, target.scales.codes, blocksPerRow(layout))
    copyRows(source.scales.values, target.scales.values, blocksPerRow(layout))
  }
}

function heightOf({ layout }: RowPanel, group: number): number {
  const [top, bottom] = rowsOfGroup(layout, group)
  return bottom - top
}

/** Codebook values of one row group. */
function codebookValues({ layout }: RowPanel): number {
  return columnGroupsOf(layout) * centroidsOf(layout) * layout.vectorDim
}
