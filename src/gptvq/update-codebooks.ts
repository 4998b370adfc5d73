import { solveSymmetric } from '../codebook/small-solve.js'
import { loadCodebook, storeCodebook } from '../codebook/store-codebook.js'
import type { Pause } from '../event-loop.js'
import { centroidsOf, columnGroupsOf, lookUp, vectorsPerRow } from '../packing/vq-layer.js'
import { type PanelState, type RowPanel, stateOf, timesHessian } from './row-panel.js'

/** A row group is done when a step lowers its loss by less than this share. */
const RELATIVE_IMPROVEMENT = 1e-3

/**
 * Moves the codebooks of a panel to lower the true loss `L = tr((W-Q) H (W-Q)^T)`, the indices fixed (DESIGN:
 * mathematics, 6). `Q` is linear in the codebooks, so this is linear least squares; it is solved by conjugate gradient,
 * preconditioned with the d x d block of each centroid. Row groups share nothing: each has step lengths of its own.
 *
 * The result is rounded to the stored form. A row group whose loss did not fall after rounding keeps its codebooks, so
 * the loss never rises.
 *
 * @param panel its layer and codebooks are changed in place
 * @param before the panel's state
 * @param steps conjugate-gradient steps at most
 * @returns the state after
 */
export async function updateCodebooks(
  panel: RowPanel,
  before: PanelState,
  steps: number,
  pause: Pause,
): Promise<PanelState> {
  if (steps === 0) return before
  const { layer, layout, codebooks, firstGroup, lastGroup, unknowns } = panel
  const columnGroups = columnGroupsOf(layout)
  const values = [firstGroup * unknowns, lastGroup * unknowns] as const
  const scales = [firstGroup * columnGroups, lastGroup * columnGroups] as const
  const oldCodebooks = codebooks.slice(...values)
  const oldElements = layer.codebooks.slice(...values)
  const oldScales = layer.codebookScales.slice(...scales)
  await conjugateGradient(panel, sumByCentroid(panel, before.residual), before.losses, steps, pause)
  roundToStored(panel)
  const after = stateOf(panel)
  for (let g = 0; g < after.losses.length; g++) {
    if (after.losses[g] <= before.losses[g]) continue
    const from = g * unknowns
    codebooks.set(oldCodebooks.subarray(from, from + unknowns), values[0] + from)
    layer.codebooks.set(oldElements.subarray(from, from + unknowns), values[0] + from)
    layer.codebookScales.set(
      oldScales.subarray(g * columnGroups, (g + 1) * columnGroups),
      scales[0] + g * columnGroups,
    )
    const rows = g * layout.rowsPerGroup * layout.cols
    after.residual.set(before.residual.subarray(rows, rows + layout.rowsPerGroup * layout.cols), rows)
    after.losses[g] = before.losses[g]
  }
  return after
}

function roundToStored(panel: RowPanel): void {
  const { layer, layout, codebooks, firstGroup, lastGroup } = panel
  const size = centroidsOf(layout) * layout.vectorDim
  const columnGroups = columnGroupsOf(layout)
  for (let group = firstGroup * columnGroups; group < lastGroup * columnGroups; group++) {
    const at = group * size
    const codebook = codebooks.subarray(at, at + size)
    layer.codebookScales[group] = storeCodebook(codebook, layer.codebooks, at)
    loadCodebook(layer.codebooks, at, layer.codebookScales[group], codebook)
  }
}

/** Lowers the loss in `panel.codebooks`. `residual` (minus half the gradient) and `losses` are those of the start. */
async function conjugateGradient(
  panel: RowPanel,
  residual: Float64Array,
  losses: Float64Array,
  steps: number,
  pause: Pause,
): Promise<void> {
  const { codebooks, firstGroup, lastGroup, unknowns, layout, layer, firstRow, lastRow } = panel
  const from = firstGroup * unknowns
  const solution = Float64Array.from(codebooks.subarray(from, lastGroup * unknowns))
  const blocks = preconditionerBlocks(panel)
  const left = losses.slice()
  const active = new Uint8Array(losses.length).fill(1)
  const direction = precondition(blocks, residual, layout.vectorDim)
  const energy = dotByGroup(residual, direction, unknowns)
  const lookedUp = new Float32Array((lastRow - firstRow) * layout.cols)
  // a look-up reads the codebooks of a whole layer, so the direction is laid out as one
  const asCodebooks = new Float32Array(codebooks.length)
  for (let step = 0; step < steps && active.includes(1); step++) {
    await pause()
    asCodebooks.set(direction, from)
    lookUp(layout, layer.indices, asCodebooks, firstRow, lastRow, lookedUp)
    const image = sumByCentroid(panel, timesHessian(panel, lookedUp))
    const curvature = dotByGroup(direction, image, unknowns)
    for (let g = 0; g < active.length; g++) {
      if (!active[g]) continue
      // no curvature left: the loss cannot fall along this direction
      const length = curvature[g] > 0 ? energy[g] / curvature[g] : 0
      for (let i = g * unknowns; i < (g + 1) * unknowns; i++) {
        solution[i] += length * direction[i]
        residual[i] -= length * image[i]
      }
      const gain = length * energy[g]
      left[g] -= gain
      // a loss of nearly 0 may come out below 0 by rounding
      if (!(gain > RELATIVE_IMPROVEMENT * Math.max(0, left[g]))) active[g] = 0
    }
    const preconditioned = precondition(blocks, residual, layout.vectorDim)
    const nextEnergy = dotByGroup(residual, preconditioned, unknowns)
    for (let i = 0; i < direction.length; i++) {
      const g = Math.floor(i / unknowns)
      direction[i] = active[g] ? preconditioned[i] + (nextEnergy[g] / energy[g]) * direction[i] : 0
    }
    energy.set(nextEnergy)
  }
  codebooks.set(solution, from)
}

/** Adds up `values` (panel rows x cols) over the weights that share a codebook value: the transpose of a look-up. */
function sumByCentroid(panel: RowPanel, values: Float32Array): Float64Array {
  const { cols } = panel.layout
  const sums = new Float64Array((panel.lastGroup - panel.firstGroup) * panel.unknowns)
  forEachVector(panel, (row, column, width, unknown) => {
    const at = row * cols + column
    for (let a = 0; a < width; a++) sums[unknown + a] += values[at + a]
  })
  return sums
}

/** For each centroid, the sum of `H_PP` over its vectors: the d x d blocks on the diagonal of the least-squares problem. */
function preconditionerBlocks(panel: RowPanel): Float64Array {
  const { hessian, layout, firstGroup, lastGroup, unknowns } = panel
  const { cols, vectorDim: d } = layout
  const blocks = new Float64Array((lastGroup - firstGroup) * unknowns * d)
  forEachVector(panel, (_row, column, width, unknown) => {
    for (let a = 0; a < width; a++) {
      const h = (column + a) * cols + column
      for (let b = 0; b < width; b++) blocks[(unknown + a) * d + b] += hessian.data[h + b]
    }
  })
  return blocks
}

/**
 * Visits all vectors of a panel: their row within the panel, their first column, their width (less than d only at the
 * end of a ragged row) and where their centroid's values start among the panel's unknowns.
 */
function forEachVector(
  panel: RowPanel,
  visit: (row: number, column: number, width: number, unknown: number) => void,
): void {
  const { layout, layer, firstRow, lastRow, firstGroup, unknowns } = panel
  const { cols, vectorDim: d, rowsPerGroup } = layout
  const size = centroidsOf(layout) * d
  const perRow = vectorsPerRow(layout)
  const perGroup = layout.columnsPerGroup / d
  for (let r = firstRow; r < lastRow; r++) {
    const base = (Math.floor(r / rowsPerGroup) - firstGroup) * unknowns
    for (let v = 0; v < perRow; v++) {
      const unknown = base + Math.floor(v / perGroup) * size + layer.indices[r * perRow + v] * d
      visit(r - firstRow, v * d, Math.min(d, cols - v * d), unknown)
    }
  }
}

function precondition(blocks: Float64Array, residual: Float64Array, d: number): Float64Array {
  const result = new Float64Array(residual.length)
  for (let at = 0; at < residual.length; at += d) {
    solveSymmetric(blocks, at * d, residual, at, d, result.subarray(at, at + d))
  }
  return result
}

function dotByGroup(a: Float64Array, b: Float64Array, unknowns: number): Float64Array {
  const sums = new Float64Array(a.length / unknowns)
  for (let i = 0; i < a.length; i++) sums[Math.floor(i / unknowns)] += a[i] * b[i]
  return sums
}
