import { Matrix as DenseMatrix, EigenvalueDecomposition } from 'ml-matrix'

/** Eigenvalues below this share of the largest count as zero in the pseudoinverse. */
const RANK_TOLERANCE = 1e-10

/**
 * Solves `A x = b` for a symmetric positive semidefinite d x d `A` at `aAt` of `a`: by Cholesky where `A` is well
 * conditioned, by its pseudoinverse otherwise (then `x` is the shortest solution). `x` (d values) receives the result.
 */
export function solveSymmetric(
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  bAt: number,
  d: number,
  x: Float64Array,
): void {
  if (!solveByCholesky(a, aAt, b, bAt, d, x)) solveByPseudoinverse(a, aAt, b, bAt, d, x)
}

function solveByCholesky(
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  bAt: number,
  d: number,
  x: Float64Array,
): boolean {
  const factor = new Float64Array(d * d)
  for (let i = 0; i < d; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[aAt + i * d + j]
      for (let k = 0; k < j; k++) sum -= factor[i * d + k] * factor[j * d + k]
      if (i === j) {
        if (!(sum > RANK_TOLERANCE * a[aAt + i * d + i])) return false
        factor[i * d + i] = Math.sqrt(sum)
      } else {
        factor[i * d + j] = sum / factor[j * d + j]
      }
    }
  }
  for (let i = 0; i < d; i++) {
    let sum = b[bAt + i]
    for (let k = 0; k < i; k++) sum -= factor[i * d + k] * x[k]
    x[i] = sum / factor[i * d + i]
  }
  for (let i = d - 1; i >= 0; i--) {
    let sum = x[i]
    for (let k = i + 1; k < d; k++) sum -= factor[k * d + i] * x[k]
    x[i] = sum / factor[i * d + i]
  }
  return true
}

function solveByPseudoinverse(
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  bAt: number,
  d: number,
  x: Float64Array,
): void {
  const dense = new DenseMatrix(d, d)
  for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) dense.set(i, j, a[aAt + i * d + j])
  const { realEigenvalues: values, eigenvectorMatrix: vectors } = new EigenvalueDecomposition(dense, {
    assumeSymmetric: true,
  })
  const smallest = RANK_TOLERANCE * Math.max(...values)
  x.fill(0)
  for (let e = 0; e < d; e++) {
    if (!(values[e] > smallest)) continue
    let projection = 0
    for (let i = 0; i < d; i++) projection += vectors.get(i, e) * b[bAt + i]
    for (let i = 0; i < d; i++) x[i] += (projection / values[e]) * vectors.get(i, e)
  }
}
