/** Share of a form's size, times the square of a vector, by which float32 may miss a distance. */
const ROUNDING = 2 ** -19

/**
 * At least the largest ratio of `|L^T v|^2` to `v^T F v` as float32 computes it, by at most 2 %; Infinity where there is
 * none, or too large to tell from rounding.
 *
 * @param form F, symmetric and positive semidefinite, d x d
 * @param size sum of |F|
 * @param factor L, lower triangular, d x d
 */
export function stretchOf(form: Float64Array, size: number, d: number, factor: Float32Array): number {
  // B = L^-1 F L^-T sees L^T v; its least eigenvalue is 1 over the largest of its inverse
  const inverse = invertLower(Float64Array.from(factor), d)
  const seen = new Float64Array(d * d)
  let rounding = 0
  for (let i = 0; i < d; i++) {
    for (let j = 0; j < d; j++) {
      for (let a = 0; a < d; a++) {
        for (let b = 0; b < d; b++)
          seen[i * d + j] += inverse[i * d + a] * form[a * d + b] * inverse[j * d + b]
      }
      rounding += ROUNDING * size * inverse[i * d + j] ** 2
    }
  }
  const root = choleskyOf(seen, d)
  if (root === undefined) return Number.POSITIVE_INFINITY
  const rootInverse = invertLower(root, d)
  const power = new Float64Array(d * d)
  for (let i = 0; i < d; i++) {
    for (let j = 0; j < d; j++) {
      for (let a = 0; a < d; a++) power[i * d + j] += rootInverse[a * d + i] * rootInverse[a * d + j]
    }
  }
  const least = 1 / largestEigenvalue(power, d) - rounding
  // rounded up to float32
  return least > 0 ? (1 + 2 ** -20) / least : Number.POSITIVE_INFINITY
}

/** At least the largest eigenvalue of a positive definite matrix, by a factor of `d^(1/64)` at most: `tr(A^64)^(1/64)`. */
function largestEigenvalue(matrix: Float64Array, d: number): number {
  let power = matrix
  let logarithm = 0
  for (let step = 0; step < 6; step++) {
    const trace = traceOf(power, d)
    logarithm += Math.log(trace) / 2 ** step
    const next = new Float64Array(d * d)
    for (let i = 0; i < d; i++) {
      for (let j = 0; j < d; j++) {
        for (let a = 0; a < d; a++) next[i * d + j] += (power[i * d + a] / trace) * (power[a * d + j] / trace)
      }
    }
    power = next
  }
  return Math.exp(logarithm + Math.log(traceOf(power, d)) / 64)
}

function traceOf(matrix: Float64Array, d: number): number {
  let trace = 0
  for (let a = 0; a < d; a++) trace += matrix[a * (d + 1)]
  return trace
}

function choleskyOf(matrix: Float64Array, d: number): Float64Array | undefined {
  const root = new Float64Array(d * d)
  for (let i = 0; i < d; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * d + j]
      for (let p = 0; p < j; p++) sum -= root[i * d + p] * root[j * d + p]
      if (i !== j) root[i * d + j] = sum / root[j * d + j]
      else if (sum > 1e-9 * matrix[i * d + i]) root[i * d + i] = Math.sqrt(sum)
      else return undefined
    }
  }
  return root
}

function invertLower(matrix: Float64Array, d: number): Float64Array {
  const inverse = new Float64Array(d * d)
  for (let j = 0; j < d; j++) {
    for (let i = j; i < d; i++) {
      let sum = i === j ? 1 : 0
      for (let p = j; p < i; p++) sum -= matrix[i * d + p] * inverse[p * d + j]
      inverse[i * d + j] = sum / matrix[i * d + i]
    }
  }
  return inverse
}
