import { type Matrix, matrix } from '../../src/common/matrix.js'
import { randomGenerator, randomNormal } from '../../src/common/random.js'

/** Draws from the normal distribution of this deviation. */
export function normals(size: number, seed: number, scale = 1): Float32Array {
  const random = randomGenerator(seed)
  return Float32Array.from({ length: size }, () => scale * randomNormal(random))
}

/** rows x cols draws from the standard normal distribution. */
export function gaussianMatrix(rows: number, cols: number, seed: number): Matrix {
  return matrix(rows, cols, normals(rows * cols, seed))
}

/** tokens x n activations: neighbouring features are correlated, each feature has its own size. */
export function randomActivations(n: number, tokens: number, seed: number): Matrix {
  const random = randomGenerator(seed)
  const sizes = Array.from({ length: n }, () => 0.2 + 2 * random())
  const result = matrix(tokens, n)
  for (let t = 0; t < tokens; t++) {
    let previous = randomNormal(random)
    for (let j = 0; j < n; j++) {
      previous = 0.7 * previous + 0.7 * randomNormal(random)
      result.data[t * n + j] = sizes[j] * previous
    }
  }
  return result
}

/** `(2 / tokens) X^T X` of {@link randomActivations}, summed in float64; singular when tokens < n. */
export function randomHessian(n: number, tokens: number, seed: number): Matrix {
  return hessianOf(randomActivations(n, tokens, seed))
}

/** `(2 / tokens) X^T X`, summed in float64. */
export function hessianOf(activations: Matrix): Matrix {
  const { rows: tokens, cols: n, data } = activations
  const sums = new Float64Array(n * n)
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < n; i++) {
      const x = data[t * n + i]
      for (let j = 0; j < n; j++) sums[i * n + j] += x * data[t * n + j]
    }
  }
  return matrix(
    n,
    n,
    Float32Array.from(sums, (sum) => (2 / tokens) * sum),
  )
}
