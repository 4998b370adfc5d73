import { NumericError, ShapeError } from './errors.js'
import { multiplyAdd, multiplyTransposedAdd } from './kernels/reference.js'
import type { Matrix } from './matrix.js'

const BLOCK = 64

/**
 * Overwrites a symmetric positive definite `h` (n x n) with the upper triangular `U` for which `H^-1 = U^T U`
 * (DESIGN: mathematics, 2). The lower triangle becomes zero.
 *
 * `H` is factored from its last row up, `H = R R^T` with `R` upper triangular; then `U = R^-1`. So the inverse of `H`
 * itself is never formed, and the whole takes one matrix and a panel of 64 rows. Only the upper triangle of `h` is read.
 *
 * @throws NumericError when `h` is not positive definite; `h` then holds no meaningful values
 */
export function inverseFactorInPlace(h: Matrix): void {
  if (h.rows !== h.cols) throw new ShapeError(`a Hessian is square, got ${h.rows} x ${h.cols}`)
  upperFactorInPlace(h.data, h.rows)
  invertUpperInPlace(h.data, h.rows)
}

/** `H = R R^T`, R upper triangular, by blocks of columns from the right; everything right of a block is final. */
function upperFactorInPlace(h: Float32Array, n: number): void {
  for (let end = n; end > 0; end -= BLOCK) {
    const start = Math.max(0, end - BLOCK)
    const width = end - start
    // H[0..end, block] -= R[0..end, end..n] R[block, end..n]^T
    if (end < n) multiplyTransposedAdd(end, width, n - end, -1, h, end, n, h, start * n + end, n, h, start, n)
    for (let j = end - 1; j >= start; j--) {
      factorColumn(h, n, j, end)
    }
  }
  for (let i = 1; i < n; i++) h.fill(0, i * n, i * n + i)
}

function factorColumn(h: Float32Array, n: number, j: number, end: number): void {
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
  for (let i = 0; i < j; i++) {
    const rowI = i * n
    let sum = h[rowI + j]
    for (let k = j + 1; k < end; k++) sum -= h[rowI + k] * h[rowJ + k]
    h[rowI + j] = sum / root
  }
}

/** `R` becomes `R^-1`, by blocks of rows from the bottom: `U_I = R_II^-1 (I - R_I,rest U_rest)`. */
function invertUpperInPlace(r: Float32Array, n: number): void {
  const panel = new Float32Array(BLOCK * n)
  for (let end = n; end > 0; end -= BLOCK) {
    const start = Math.max(0, end - BLOCK)
    const height = end - start
    for (let i = 0; i < height; i++) {
      const row = (start + i) * n
      panel.set(r.subarray(row, row + n), i * n)
      r.fill(0, row + start, row + n)
      r[row + start + i] = 1
    }
    for (let k = end; k < n; k += BLOCK) {
      const depth = Math.min(BLOCK, n - k)
      multiplyAdd(height, n - k, depth, -1, panel, k, n, r, k * n + k, n, r, start * n + k, n)
    }
    solveUpperRows(panel, start, height, r, n)
  }
}

/** Solves `R_II X = B` for the rows of a block, from its last row up; `R_II` lies in `panel`, `B` in `r`. */
function solveUpperRows(
  panel: Float32Array,
  start: number,
  height: number,
  r: Float32Array,
  n: number,
): void {
  for (let i = height - 1; i >= 0; i--) {
    const row = (start + i) * n
    for (let k = i + 1; k < height; k++) {
      const factor = panel[i * n + start + k]
      const below = (start + k) * n
      for (let j = start + k; j < n; j++) r[row + j] -= factor * r[below + j]
    }
    const pivot = panel[i * n + start + i]
    for (let j = start + i; j < n; j++) r[row + j] /= pivot
  }
}
