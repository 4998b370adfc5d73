import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import type { Matrix } from '../matrix.js'
import {
  centroidsOf,
  columnGroupsOf,
  lookUp,
  rowGroupsOf,
  type VqLayer,
  type VqLayout,
} from '../packing/vq-layer.js'

/** Floats of a panel; bounds the memory of the steps that need `(W - Q) H`, and the time between two pauses. */
const PANEL_VALUES = 2 ** 18

/** Consecutive row groups of a layer, whose rows are multiplied with the Hessian together. */
export interface RowPanel {
  readonly weight: Matrix
  /** Undamped. */
  readonly hessian: Matrix
  readonly layer: VqLayer
  readonly layout: VqLayout
  /** All codebooks of the layer as floats, groups x k x d. */
  readonly codebooks: Float32Array
  readonly firstGroup: number
  /** Exclusive. */
  readonly lastGroup: number
  readonly firstRow: number
  /** Exclusive. */
  readonly lastRow: number
  /** Codebook values of one row group: column groups x k x d. */
  readonly unknowns: number
}

/** Cuts a layer into panels of whole row groups. `codebooks` are the layer's stored codebooks as floats. */
export function rowPanels(
  weight: Matrix,
  hessian: Matrix,
  layer: VqLayer,
  codebooks: Float32Array,
): RowPanel[] {
  const { layout } = layer
  const { cols, rows, rowsPerGroup } = layout
  const rowGroups = rowGroupsOf(layout)
  const height = Math.max(1, Math.floor(PANEL_VALUES / (cols * rowsPerGroup)))
  const unknowns = columnGroupsOf(layout) * centroidsOf(layout) * layout.vectorDim
  const panels: RowPanel[] = []
  for (let firstGroup = 0; firstGroup < rowGroups; firstGroup += height) {
    const lastGroup = Math.min(firstGroup + height, rowGroups)
    const firstRow = firstGroup * rowsPerGroup
    const lastRow = Math.min(lastGroup * rowsPerGroup, rows)
    panels.push({
      weight,
      hessian,
      layer,
      layout,
      codebooks,
      firstGroup,
      lastGroup,
      firstRow,
      lastRow,
      unknowns,
    })
  }
  return panels
}

/** How far a panel is from its weights; it goes from step to step, so that none has to work it out again. */
export interface PanelState {
  /** `(W - Q) H`, panel rows x cols. */
  readonly residual: Float32Array
  /** `tr((W - Q) H (W - Q)^T)` of each row group. */
  readonly losses: Float64Array
}

/** Works out the state of a panel from its indices and codebooks. */
export function stateOf(panel: RowPanel): PanelState {
  const { weight, layout, layer, codebooks, firstRow, lastRow, firstGroup, lastGroup } = panel
  const { cols, rowsPerGroup } = layout
  const difference = new Float32Array((lastRow - firstRow) * cols)
  lookUp(layout, layer.indices, codebooks, firstRow, lastRow, difference)
  for (let i = 0; i < difference.length; i++) difference[i] = weight.data[firstRow * cols + i] - difference[i]
  const residual = timesHessian(panel, difference)
  const losses = new Float64Array(lastGroup - firstGroup)
  const groupValues = cols * rowsPerGroup
  for (let g = 0; g < losses.length; g++) {
    const end = Math.min((g + 1) * groupValues, residual.length)
    for (let i = g * groupValues; i < end; i++) losses[g] += difference[i] * residual[i]
  }
  return { residual, losses }
}

/** `rows H` for rows of the layer's width. */
export function timesHessian(panel: RowPanel, rows: Float32Array): Float32Array {
  const n = panel.layout.cols
  const product = new Float32Array(rows.length)
  const [left, hessian] = [wholeBlock(rows, n), wholeBlock(panel.hessian.data, n)]
  kernels().gemm('AB', rows.length / n, n, n, 1, left, hessian, 0, wholeBlock(product, n))
  return product
}
