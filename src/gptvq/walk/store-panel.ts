import { type CodebookElements, loadCodebook, storeCodebook } from '../../codebook/store-codebook.js'
import type { Pause } from '../../common/event-loop.js'
import { centroidsOf, columnGroupsOf, rowGroupsOf, type VqLayer } from '../../packing/vq-layer.js'
import { copyGroup } from '../refine/narrow-panel.js'
import { type LayerPanel, type PanelState, type RowPanel, stateOf } from './row-panel.js'

/** A panel in its stored form, to go back to. */
export interface Snapshot {
  readonly panel: RowPanel
  readonly elements: CodebookElements
  readonly codebookScales: Float32Array
  readonly losses: Float64Array
}

/** @param losses of the panel's row groups, whose codebooks are as they are stored in `layer` */
export function snapshot(panel: LayerPanel, layer: VqLayer, losses: Float64Array): Snapshot {
  const { scales, indices, codebooks } = panel
  const [first, last] = storedCodebooks(panel)
  const size = codebookSize(panel)
  return {
    panel: {
      ...panel,
      indices: indices.slice(),
      codebooks: codebooks.slice(),
      scales: scales && { ...scales, codes: scales.codes.slice(), values: scales.values.slice() },
    },
    elements: layer.codebooks.slice(first * size, last * size),
    codebookScales: layer.codebookScales.slice(first, last),
    losses: losses.slice(),
  }
}

/**
 * Rounds the codebooks of a panel to their stored form, in the panel and in its layer. A row group that this leaves
 * worse than at the snapshot goes back to that.
 *
 * @param residual of the panel, overwritten by that of the state after
 * @returns the state after
 */
export async function storePanel(
  panel: LayerPanel,
  layer: VqLayer,
  before: Snapshot,
  residual: Float32Array,
  pause: Pause,
): Promise<PanelState> {
  roundCodebooks(panel, layer)
  const state = await stateOf(panel, pause, residual)
  const worse = Array.from(state.losses.keys()).filter((g) => !(state.losses[g] <= before.losses[g]))
  if (worse.length === 0) return state
  for (const group of worse) restoreGroup(before, panel, layer, group)
  return stateOf(panel, pause, residual)
}

/** Puts a panel back as it was at the snapshot. */
export function restorePanel(before: Snapshot, panel: LayerPanel, layer: VqLayer): void {
  for (let group = 0; group < rowGroupsOf(panel.layout); group++) restoreGroup(before, panel, layer, group)
}

/** Remembers indices and scales of a panel whose codebooks do not move. @returns what puts them back */
export function keepIndices({ indices, scales }: RowPanel): () => void {
  const [numbers, codes, values] = [indices.slice(), scales?.codes.slice(), scales?.values.slice()]
  return () => {
    indices.set(numbers)
    if (scales && codes && values) {
      scales.codes.set(codes)
      scales.values.set(values)
    }
  }
}

function roundCodebooks(panel: LayerPanel, layer: VqLayer): void {
  const size = codebookSize(panel)
  const [first, last] = storedCodebooks(panel)
  for (let stored = first; stored < last; stored++) {
    const codebook = panel.codebooks.subarray((stored - first) * size, (stored - first + 1) * size)
    layer.codebookScales[stored] = storeCodebook(codebook, layer.codebooks, stored * size)
    loadCodebook(layer.codebooks, stored * size, layer.codebookScales[stored], codebook)
  }
}

function restoreGroup(before: Snapshot, panel: LayerPanel, layer: VqLayer, group: number): void {
  copyGroup(before.panel, group, panel, group)
  const size = codebookSize(panel)
  const count = columnGroupsOf(panel.layout)
  const from = group * count
  const to = storedCodebooks(panel)[0] + from
  layer.codebooks.set(before.elements.subarray(from * size, (from + count) * size), to * size)
  layer.codebookScales.set(before.codebookScales.subarray(from, from + count), to)
}

/** The numbers in the layer of a panel's codebooks, the second exclusive. */
function storedCodebooks({ layout, firstGroup }: LayerPanel): readonly [number, number] {
  const columnGroups = columnGroupsOf(layout)
  return [firstGroup * columnGroups, (firstGroup + rowGroupsOf(layout)) * columnGroups]
}

function codebookSize({ layout }: RowPanel): number {
  return centroidsOf(layout) * layout.vectorDim
}
