import { loadCodebook, storeCodebook } from '../codebook/store-codebook.js'
import type { Pause } from '../event-loop.js'
import { centroidsOf, columnGroupsOf, lookUp } from '../packing/vq-layer.js'
import { inverseBlocks, precondition, rowsOfGroup, sumByCentroid, vectorBlocks } from './normal-equations.js'
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
 * @param before the panel's state; its residual is overwritten by that of the state after
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
  await conjugateGradient(panel, before, steps, pause)
  roundToStored(panel)
  const after = stateOf(panel, panel.buffers.product)
  const groupValues = layout.rowsPerGroup * layout.cols
  const panelValues = before.residual.length
  for (let g = 0; g < after.losses.length; g++) {
    if (after.losses[g] <= before.losses[g]) {
      const rows = [g * groupValues, Math.min((g + 1) * groupValues, panelValues)] as const
      before.residual.set(after.residual.subarray(...rows), rows[0])
      continue
    }
    const from = g * unknowns
    codebooks.set(oldCodebooks.subarray(from, from + unknowns), values[0] + from)
    layer.codebooks.set(oldElements.subarray(from, from + unknowns), values[0] + from)
    layer.codebookScales.set(
      oldScales.subarray(g * columnGroups, (g + 1) * columnGroups),
      scales[0] + g * columnGroups,
    )
    after.losses[g] = before.losses[g]
  }
  return { residual: before.residual, losses: after.losses }
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

/** The codebooks of one row group on their way down. */
interface Descent {
  /** Counted within the panel. */
  readonly group: number
  readonly solution: Float64Array
  /** Minus half the gradient of the loss. */
  readonly residual: Float64Array
  readonly inverses: Float64Array
  readonly direction: Float64Array
  /** `residual . P residual` with the preconditioner `P`. */
  energy: number
  loss: number
}

/** Lowers the loss in `panel.codebooks`, which are not rounded to their stored form yet. */
async function conjugateGradient(
  panel: RowPanel,
  before: PanelState,
  steps: number,
  pause: Pause,
): Promise<void> {
  const { codebooks, scales, firstGroup, unknowns, layout, layer, buffers } = panel
  const perVector = vectorBlocks(panel)
  const groups = Array.from(before.losses, (loss, group) =>
    startDescent(panel, group, perVector, before.residual, loss),
  )
  // a look-up reads the codebooks of a whole layer, so the directions are laid out as one
  const directions = new Float32Array(codebooks.length)
  const image = new Float64Array(unknowns)
  const scratch = new Float64Array(unknowns)
  let active = groups
  for (let step = 0; step < steps && active.length > 0; step++) {
    await pause()
    let rows = 0
    for (const { group, direction } of active) {
      directions.set(direction, (firstGroup + group) * unknowns)
      const [top, bottom] = rowsOfGroup(panel, group)
      lookUp(
        layout,
        layer.indices,
        directions,
        scales,
        top,
        bottom,
        buffers.rows.subarray(rows * layout.cols),
      )
      rows += bottom - top
    }
    timesHessian(panel, buffers.rows, rows, buffers.product)
    let first = 0
    active = active.filter((descent) => {
      const [top, bottom] = rowsOfGroup(panel, descent.group)
      sumByCentroid(panel, descent.group, buffers.product, first, image)
      first += bottom - top
      return goDown(descent, image, layout.vectorDim, scratch)
    })
  }
  for (const { group, solution } of groups) codebooks.set(solution, (firstGroup + group) * unknowns)
}

/**
 * @param perVector see {@link vectorBlocks}
 * @param residual of the panel's weights, panel rows x cols
 */
function startDescent(
  panel: RowPanel,
  group: number,
  perVector: Float64Array,
  residual: Float32Array,
  loss: number,
): Descent {
  const { codebooks, firstGroup, firstRow, unknowns, layout } = panel
  const [top] = rowsOfGroup(panel, group)
  const at = (firstGroup + group) * unknowns
  const inverses = inverseBlocks(panel, group, perVector)
  const sums = new Float64Array(unknowns)
  sumByCentroid(panel, group, residual, top - firstRow, sums)
  const direction = new Float64Array(unknowns)
  const energy = precondition(inverses, sums, layout.vectorDim, direction)
  const solution = Float64Array.from(codebooks.subarray(at, at + unknowns))
  return { group, solution, residual: sums, inverses, direction, energy, loss }
}

/**
 * One step along the direction, whose image under the least-squares problem's matrix is `image`; then the next
 * direction. Returns whether another step is worth it.
 */
function goDown(descent: Descent, image: Float64Array, d: number, scratch: Float64Array): boolean {
  const { solution, residual, inverses, direction, energy } = descent
  let curvature = 0
  for (let i = 0; i < image.length; i++) curvature += direction[i] * image[i]
  // no curvature left: the loss cannot fall along this direction
  const length = curvature > 0 ? energy / curvature : 0
  for (let i = 0; i < image.length; i++) {
    solution[i] += length * direction[i]
    residual[i] -= length * image[i]
  }
  const gain = length * energy
  descent.loss -= gain
  // a loss of nearly 0 may come out below 0 by rounding
  if (!(gain > RELATIVE_IMPROVEMENT * Math.max(0, descent.loss))) return false
  descent.energy = precondition(inverses, residual, d, scratch)
  const turn = descent.energy / energy
  for (let i = 0; i < direction.length; i++) direction[i] = scratch[i] + turn * direction[i]
  return true
}
