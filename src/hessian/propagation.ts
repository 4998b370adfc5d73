import type { Matrix } from '../common/matrix.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'

/**
 * How the columns still to come absorb the error of columns just quantized: with
 * `E = (W_P - Q_P) U_PP^-1`, `W_F -= E U_PF`. Within a block of columns at once, for all later columns when the block
 * is done: the same sums, but most of them as one matrix product.
 */

/**
 * The error of one vector, `(w_P - q_P) U_PP^-1`, written over `error` (d values, holding `w_P - q_P`). `U_PP` is
 * upper triangular, so column `a` needs the columns before it only.
 */
export function solveError(error: Float64Array, d: number, factor: Matrix, column: number): void {
  const { data: u, cols: n } = factor
  for (let a = 0; a < d; a++) {
    let sum = error[a]
    for (let b = 0; b < a; b++) sum -= error[b] * u[(column + b) * n + column + a]
    error[a] = sum / u[(column + a) * n + column + a]
  }
}

/** `row[j] -= sum_a error[a] U[column + a, j]` for j from `column + d` to `end`; the row starts at `rowAt` of `work`. */
export function spreadError(
  work: Float32Array,
  rowAt: number,
  error: Float64Array,
  d: number,
  factor: Matrix,
  column: number,
  end: number,
): void {
  const { data: u, cols: n } = factor
  for (let a = 0; a < d; a++) {
    const e = error[a]
    const uAt = (column + a) * n
    for (let j = column + d; j < end; j++) work[rowAt + j] -= e * u[uAt + j]
  }
}

/**
 * `W[rows, end..] -= E U[start..end, end..]`: what a finished block leaves to all later columns.
 *
 * @param errors rows x (end - start)
 */
export function flushErrors(
  work: Matrix,
  errors: Float32Array,
  factor: Matrix,
  start: number,
  end: number,
): void {
  const rest = work.cols - end
  if (rest <= 0) return
  const { data: u, cols: n } = factor
  const width = end - start
  const factorRight = { data: u, offset: start * n + end, stride: n }
  const workRight = { data: work.data, offset: end, stride: work.cols }
  kernels().gemm('AB', work.rows, rest, width, -1, wholeBlock(errors, width), factorRight, 1, workRight)
}
