import { Matrix as DenseMatrix, inverse } from 'ml-matrix'
import type { Matrix } from '../../src/common/matrix.js'

/** The float64 oracle's form of a matrix. */
export function dense(m: Matrix): DenseMatrix {
  return DenseMatrix.from1DArray(m.rows, m.cols, Array.from(m.data))
}

/** `A^-1` in float64, with one step of Newton's method to shed rounding. */
export function exactInverse(a: DenseMatrix): DenseMatrix {
  const first = inverse(a)
  return DenseMatrix.mul(first, 2).sub(first.mmul(a).mmul(first))
}

/** Upper triangular `U` with `H^-1 = U^T U` and a positive diagonal, in float64, column by column from its definition. */
export function inverseFactorOracle(h: DenseMatrix): DenseMatrix {
  const n = h.rows
  const target = exactInverse(h)
  const u = DenseMatrix.zeros(n, n)
  for (let i = 0; i < n; i++) {
    for (let j = i; j < n; j++) {
      let sum = target.get(i, j)
      for (let k = 0; k < i; k++) sum -= u.get(k, i) * u.get(k, j)
      u.set(i, j, i === j ? Math.sqrt(sum) : sum / u.get(i, i))
    }
  }
  return u
}

/** The largest absolute element. */
export function largestElement(m: DenseMatrix): number {
  return Math.max(m.max(), -m.min())
}
