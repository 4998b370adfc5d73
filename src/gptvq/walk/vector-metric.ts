import type { Matrix } from '../../common/matrix.js'
import type { VectorMetric } from '../options.js'

/**
 * The metric of every vector of a row, vectors x d x d: `M_P = (U_PP^T U_PP)^-1`, or
 * `diag(1 / U_ii^2)`. All rows of a layer share them.
 *
 * @param factor `U`, its size a multiple of `d`
 */
export function vectorMetrics(factor: Matrix, d: number, form: VectorMetric): Float64Array {
  const n = factor.rows
  const metrics = new Float64Array(n * d)
  const inverse = new Float64Array(d * d)
  for (let column = 0; column < n; column += d) {
    invertBlock(factor, column, d, inverse)
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) {
        let sum = 0
        for (let c = Math.max(a, b); c < d; c++) sum += inverse[a * d + c] * inverse[b * d + c]
        if (form === 'full') metrics[column * d + a * d + b] = sum
        else if (a === b) metrics[column * d + a * d + b] = inverse[a * d + a] ** 2
      }
    }
  }
  return metrics
}

/** `U_PP^-1`, upper triangular, by back substitution. */
function invertBlock(factor: Matrix, column: number, d: number, inverse: Float64Array): void {
  const { data: u, cols: n } = factor
  inverse.fill(0)
  for (let j = 0; j < d; j++) {
    for (let i = j; i >= 0; i--) {
      let sum = i === j ? 1 : 0
      for (let k = i + 1; k <= j; k++) sum -= u[(column + i) * n + column + k] * inverse[k * d + j]
      inverse[i * d + j] = sum / u[(column + i) * n + column + i]
    }
  }
}
