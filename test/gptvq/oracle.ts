import { Matrix as Dense, inverse } from 'ml-matrix'
import type { Matrix } from '../../src/common/matrix.js'

/** float64 copy for ml-matrix. */
export function dense(m: Matrix): Dense {
  return Dense.from1DArray(m.rows, m.cols, Array.from(m.data))
}

/** `H + damping mean(diag H) I` in float64. */
export function damped(hessian: Matrix, damping: number): Dense {
  const h = dense(hessian)
  const mean = h.trace() / hessian.rows
  return h.add(Dense.eye(hessian.rows).mul(damping * mean))
}

/** `tr(D H D^T)` by the definition, in float64. */
export function lossOf(weight: Matrix, quantized: Matrix, hessian: Matrix): number {
  const difference = dense(weight).sub(dense(quantized))
  return difference.mmul(dense(hessian)).mmul(difference.transpose()).trace()
}

/**
 * Walks one row from left to right with the inverse Hessian itself instead of its factor: quantize the vector `P` by
 * `choose`, spread `(w_P - q_P) [H^-1]_PP^-1 [H^-1]_P,:` over the row, then eliminate `P` from `H^-1`. Plain float64.
 *
 * `choose` gets the current vector and its metric `[H^-1]_PP^-1`, and returns what it becomes.
 */
export function walkRow(
  row: Float64Array,
  hessian: Dense,
  d: number,
  choose: (vector: number[], metric: Dense, column: number) => number[],
): void {
  let rest = inverse(hessian)
  const n = row.length
  for (let column = 0; column < n; column += d) {
    const metric = inverse(rest.subMatrix(0, d - 1, 0, d - 1))
    const vector = Array.from(row.subarray(column, column + d))
    const chosen = choose(vector, metric, column)
    const error = Dense.rowVector(vector.map((value, a) => value - chosen[a]))
    const step = error.mmul(metric).mmul(rest.subMatrix(0, d - 1, 0, rest.columns - 1))
    for (let j = 0; j < rest.columns; j++) row[column + j] -= step.get(0, j)
    for (let a = 0; a < d; a++) row[column + a] = chosen[a]
    const size = rest.rows
    if (size === d) return
    const cross = rest.subMatrix(d, size - 1, 0, d - 1)
    rest = rest.subMatrix(d, size - 1, d, size - 1).sub(cross.mmul(metric).mmul(cross.transpose()))
  }
}
