import type { Pause } from '../../common/event-loop.js'
import { fromRow, wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { centroidsOf, columnGroupsOf, lookUpRun, rowGroupsOf } from '../../packing/vq-layer.js'
import { rowsOfGroup } from '../walk/row-panel.js'
import { type ColumnStrip, stripHessian } from './column-strip.js'
import { inverseBlocks, precondition, sumByCentroid, unknownsOf, vectorBlocks } from './normal-equations.js'

/** A row group is done when a step lowers its loss by less than this share. */
const RELATIVE_IMPROVEMENT = 1e-3

/** The codebooks of one row group on their way down. */
interface Descent {
  readonly group: number
  readonly solution: Float64Array
  /** Minus half the gradient of the loss. */
  readonly residual: Float64Array
  readonly inverses: Float64Array
  readonly direction: Float64Array
  /** `residual . P residual` with the preconditioner `P`. */
  energy: number
}

/**
 * Moves the codebooks of a strip to lower the true loss `L = tr((W-Q) H (W-Q)^T)`, the indices fixed. `Q` is linear in
 * the codebooks, so this is linear least squares; it is solved by conjugate gradient, preconditioned with the d x d
 * block of each centroid. Row groups share nothing: each has step lengths of its own. No step raises the loss.
 *
 * @param strip its codebooks are changed in place, as floats; its residual, moves and losses follow
 * @param steps conjugate-gradient steps at most
 */
export async function updateCodebooks(strip: ColumnStrip, steps: number, pause: Pause): Promise<void> {
  if (steps === 0) return
  const { panel, width } = strip
  const perVector = vectorBlocks(strip)
  const groups = Array.from({ length: rowGroupsOf(panel.layout) }, (_, group) =>
    startDescent(strip, group, perVector),
  )
  const product = wholeBlock(panel.buffers.product, width)
  const image = new Float64Array(unknownsOf(strip))
  const scratch = new Float64Array(unknownsOf(strip))
  // a look-up reads the codebooks of a whole panel, so the directions are laid out as these
  const directions = new Float32Array(panel.codebooks.length)
  let active = groups
  for (let step = 0; step < steps && active.length > 0; step++) {
    await pause()
    multiplyDirections(strip, active, directions)
    let next = 0
    active = active.filter((descent) => {
      const row = next
      const [top, bottom] = rowsOfGroup(panel.layout, descent.group)
      next += bottom - top
      sumByCentroid(panel, strip, descent.group, fromRow(product, row), image)
      return goDown(strip, descent, image, row, scratch)
    })
  }
  for (const { group, solution } of groups) codebooksOf(strip, group, panel.codebooks).set(solution)
}

/** The codebooks of one row group in the strip, within codebooks laid out as the panel's. */
function codebooksOf(strip: ColumnStrip, group: number, codebooks: Float32Array): Float32Array {
  const { panel, firstColumnGroup } = strip
  const size = centroidsOf(panel.layout) * panel.layout.vectorDim
  const at = (group * columnGroupsOf(panel.layout) + firstColumnGroup) * size
  return codebooks.subarray(at, at + unknownsOf(strip))
}

/** @param perVector see {@link vectorBlocks} */
function startDescent(strip: ColumnStrip, group: number, perVector: Float64Array): Descent {
  const { panel, width } = strip
  const [top] = rowsOfGroup(panel.layout, group)
  const inverses = inverseBlocks(strip, group, perVector)
  const residual = new Float64Array(unknownsOf(strip))
  sumByCentroid(panel, strip, group, fromRow(wholeBlock(strip.residual, width), top), residual)
  const direction = new Float64Array(residual.length)
  const energy = precondition(inverses, residual, panel.layout.vectorDim, direction)
  const solution = Float64Array.from(codebooksOf(strip, group, panel.codebooks))
  return { group, solution, residual, inverses, direction, energy }
}

/**
 * Writes what the weights of the active row groups would move by, rows x the strip's width, one group after the other,
 * to `buffers.rows`, and that times the Hessian to `buffers.product`.
 */
function multiplyDirections(strip: ColumnStrip, active: readonly Descent[], directions: Float32Array): void {
  const { panel, firstColumnGroup, lastColumnGroup, width } = strip
  const { layout, indices, scales, buffers } = panel
  let rows = 0
  for (const { group, direction } of active) {
    codebooksOf(strip, group, directions).set(direction)
    const [top, bottom] = rowsOfGroup(layout, group)
    for (let r = top; r < bottom; r++, rows++) {
      for (let g = firstColumnGroup; g < lastColumnGroup; g++) {
        const to = rows * width + (g - firstColumnGroup) * layout.columnsPerGroup
        lookUpRun(layout, indices, directions, scales?.values, r, g, buffers.rows, to)
      }
    }
  }
  const [a, product] = [wholeBlock(buffers.rows, width), wholeBlock(buffers.product, width)]
  kernels().gemm('AB', rows, width, width, 1, a, stripHessian(strip), 0, product)
}

/**
 * One step along the direction, whose image under the least-squares problem's matrix is `image`; then the next
 * direction. Returns whether another step is worth it.
 *
 * @param row where the row group starts in `buffers.rows` and `buffers.product`
 */
function goDown(
  strip: ColumnStrip,
  descent: Descent,
  image: Float64Array,
  row: number,
  scratch: Float64Array,
): boolean {
  const { group, solution, residual, inverses, direction, energy } = descent
  const { losses } = strip
  let curvature = 0
  for (let i = 0; i < image.length; i++) curvature += direction[i] * image[i]
  // no curvature left: the loss cannot fall along this direction
  const length = curvature > 0 ? energy / curvature : 0
  for (let i = 0; i < image.length; i++) {
    solution[i] += length * direction[i]
    residual[i] -= length * image[i]
  }
  moveRows(strip, group, row, length)
  const gain = length * energy
  // a loss of nearly 0 may come out below 0 by rounding
  losses[group] = Math.max(0, losses[group] - gain)
  if (!(gain > RELATIVE_IMPROVEMENT * losses[group])) return false
  descent.energy = precondition(inverses, residual, strip.panel.layout.vectorDim, scratch)
  const turn = descent.energy / energy
  for (let i = 0; i < direction.length; i++) direction[i] = scratch[i] + turn * direction[i]
  return true
}

/** Residual and moves of a row group follow a step of the given length. */
function moveRows(
  { panel, width, residual, moves }: ColumnStrip,
  group: number,
  row: number,
  length: number,
) {
  const { rows, product } = panel.buffers
  const [top, bottom] = rowsOfGroup(panel.layout, group)
  const count = (bottom - top) * width
  const [at, to] = [row * width, top * width]
  for (let i = 0; i < count; i++) residual[to + i] -= length * product[at + i]
  if (moves) for (let i = 0; i < count; i++) moves[to + i] += length * rows[at + i]
}
