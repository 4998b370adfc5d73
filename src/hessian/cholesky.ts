import { NumericError, ShapeError } from '../common/errors.js'
import { type Pause, pacer } from '../common/event-loop.js'
import type { Matrix } from '../common/matrix.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'

const BLOCK = 64
/** Rows of the inverse that one product takes up; more do fewer products, but more of their zeros. */
const SOLVED_TOGETHER = 512

/**
 * Overwrites a symmetric positive definite `h` (n x n) with the upper triangular `U` for which `H^-1 = U^T U`.
 * The lower triangle becomes zero.
 *
 * `H` is factored from its last row up, `H = R R^T` with `R` upper triangular; then `U = R^-1`. So the inverse of `H`
 * itself is never formed, and the whole takes one matrix and two panels of 64 rows. Only the upper triangle of `h` is read.
 *
 * @param pause awaited between blocks of columns, default: gives the event loop its turns
 * @throws NumericError when `h` is not positive definite; `h` then holds no meaningful values
 */
export async function inverseFactorInPlace(h: Matrix, pause: Pause = pacer(undefined)): Promise<void> {
  if (h.rows !== h.cols) throw new ShapeError(`a Hessian is square, got ${h.rows} x ${h.cols}`)
  const room: Workspace = {
    inverse: new Float32Array(BLOCK * BLOCK),
    column: new Float64Array(BLOCK),
    panel: new Float32Array(BLOCK * h.rows),
    rest: new Float32Array(BLOCK * h.rows),
  }
  await upperFactorInPlace(h.data, h.rows, room, pause)
  await invertUpperInPlace(h.data, h.rows, room, pause)
}

/** What the steps below write beside the matrix. */
interface Workspace {
  /** Inverse of a square on the diagonal, and one column of it. */
  readonly inverse: Float32Array
  readonly column: Float64Array
  /** Two panels of BLOCK rows. */
  readonly panel: Float32Array
  readonly rest: Float32Array
}

/** `H = R R^T`, R upper triangular, by blocks of columns from the right; everything right of a block is final. */
async function upperFactorInPlace(h: Float32Array, n: number, room: Workspace, pause: Pause): Promise<void> {
  const { gemm } = kernels()
  const { inverse, panel: above } = room
  for (let end = n; end > 0; end -= BLOCK) {
    await pause()
    const start = Math.max(0, end - BLOCK)
    const width = end - start
    const column = { data: h, offset: start, stride: n }
    // H[0..end, block] -= R[0..end, end..n] R[block, end..n]^T
    if (end < n) {
      const right = { data: h, offset: end, stride: n }
      const rightOfBlock = { data: h, offset: start * n + end, stride: n }
      gemm('ABt', end, width, n - end, -1, right, rightOfBlock, 1, column)
    }
    factorBlock(h, n, start, end)
    if (start === 0) break
    // R[0..start, block] = H[0..start, block] R[block, block]^-T
    invertBlock(h, n, start, width, room)
    copyRows(h, start, n, start, width, above)
    gemm('ABt', start, width, width, 1, wholeBlock(above, width), wholeBlock(inverse, width), 0, column)
  }
  for (let i = 1; i < n; i++) h.fill(0, i * n, i * n + i)
}

/** Factors the square on the diagonal in place, from its last row up. */
function factorBlock(h: Float32Array, n: number, start: number, end: number): void {
  for (let j = end - 1; j >= start; j--) {
    const rowJ = j * n
    let pivot = h[rowJ + j]
    for (let k = j + 1; k < end; k++) pivot -= h[rowJ + k] * h[rowJ + k]
    // also refuses NaN
    if (!(pivot > 0)) {
      throw new NumericError(
        `the Hessian is not positive definite: the pivot of column ${j} of ${n} is ${pivot}, expected more than 0. ` +
          'Use more calibration text or more damping',
      )
    }
    const root = Math.sqrt(pivot)
    h[rowJ + j] = root
    for (let i = start; i < j; i++) {
      let sum = h[i * n + j]
      for (let k = j + 1; k < end; k++) sum -= h[i * n + k] * h[rowJ + k]
      h[i * n + j] = sum / root
    }
  }
}

/** Writes to `room.inverse` the inverse (width x width) of the upper triangular square of `r` whose first row and column are `start`. */
function invertBlock(r: Float32Array, n: number, start: number, width: number, room: Workspace): void {
  const { inverse, column } = room
  inverse.fill(0)
  for (let j = 0; j < width; j++) {
    for (let i = j; i >= 0; i--) {
      const row = (start + i) * n + start
      let sum = i === j ? 1 : 0
      for (let k = i + 1; k <= j; k++) sum -= r[row + k] * column[k]
      column[i] = sum / r[row + i]
      inverse[i * width + j] = column[i]
    }
  }
}

/** Copies `width` columns from `start` on of the first `rows` rows. */
function copyRows(
  h: Float32Array,
  rows: number,
  n: number,
  start: number,
  width: number,
  copy: Float32Array,
): void {
  for (let i = 0; i < rows; i++) copy.set(h.subarray(i * n + start, i * n + start + width), i * width)
}

/** `R` becomes `R^-1`, by blocks of rows from the bottom: `U_I = R_II^-1 (I - R_I,rest U_rest)`. */
async function invertUpperInPlace(r: Float32Array, n: number, room: Workspace, pause: Pause): Promise<void> {
  const { gemm } = kernels()
  const { inverse, panel, rest: rows } = room
  for (let end = n; end > 0; end -= BLOCK) {
    await pause()
    const start = Math.max(0, end - BLOCK)
    const height = end - start
    const rest = n - end
    invertBlock(r, n, start, height, room)
    for (let i = 0; i < height; i++) {
      const row = (start + i) * n
      panel.set(r.subarray(row + end, row + n), i * rest)
      r.set(inverse.subarray(i * height, (i + 1) * height), row + start)
    }
    if (rest === 0) continue
    rows.fill(0, 0, height * rest)
    // rows of U_rest above its diagonal are zero: a block of U meets only the columns from its own on
    for (let k = 0; k < rest; k += SOLVED_TOGETHER) {
      const depth = Math.min(SOLVED_TOGETHER, rest - k)
      const left = { data: panel, offset: k, stride: rest }
      const below = { data: r, offset: (end + k) * n + end + k, stride: n }
      gemm('AB', height, rest - k, depth, -1, left, below, 1, { data: rows, offset: k, stride: rest })
    }
    const target = { data: r, offset: start * n + end, stride: n }
    gemm('AB', height, rest, height, 1, wholeBlock(inverse, height), wholeBlock(rows, rest), 0, target)
  }
}
