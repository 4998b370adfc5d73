import fc from 'fast-check'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import { randomGenerator } from '../../src/common/random.js'
import { gaussianMatrix } from '../support/random-matrix.js'

/** Vectors (n x d) and the metric they are measured by, as a caller of `fitCodebook` gives them. */
export interface Problem {
  readonly vectors: Matrix
  readonly metric?: Matrix
}

export const metricKinds = ['plain', 'diagonal', 'full', 'singular'] as const
export type MetricKind = (typeof metricKinds)[number]

/** `period` metrics; diagonal ones hold some zeros, singular ones are `v v^T` with small whole numbers, so exact. */
export function randomMetric(kind: MetricKind, period: number, d: number, seed: number): Matrix | undefined {
  if (kind === 'plain') return undefined
  const random = randomGenerator(seed)
  if (kind === 'diagonal') {
    const weights = Float32Array.from({ length: period * d }, () => Math.max(0, random() * 4 - 0.4))
    return matrix(period, d, weights)
  }
  const result = matrix(period, d * d)
  const { data } = gaussianMatrix(period * d, d, seed)
  const v = new Float64Array(d)
  for (let p = 0; p < period; p++) {
    for (let a = 0; a < d; a++) v[a] = Math.floor(random() * 5) - 2
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) {
        let sum = kind === 'singular' ? v[a] * v[b] : a === b ? 0.01 : 0
        for (let e = 0; e < d && kind === 'full'; e++) {
          sum += data[(p * d + e) * d + a] * data[(p * d + e) * d + b]
        }
        result.data[(p * d + a) * d + b] = sum
      }
    }
  }
  return result
}

/** Random problems: any number of vectors, some of them equal to each other, any metric. */
export const problems: fc.Arbitrary<Problem> = fc
  .record({
    d: fc.integer({ min: 1, max: 4 }),
    period: fc.integer({ min: 1, max: 5 }),
    repeats: fc.integer({ min: 1, max: 30 }),
    kind: fc.constantFrom(...metricKinds),
    duplicates: fc.boolean(),
    centre: fc.constantFrom(0, 1, 100),
    size: fc.constantFrom(1, 1e-3, 1e4),
    seed: fc.nat(1e6),
  })
  .map(({ d, period, repeats, kind, duplicates, centre, size, seed }) => {
    const vectors = gaussianMatrix(period * repeats, d, seed)
    for (let i = 0; i < vectors.data.length; i++) {
      const value = duplicates ? Math.round(vectors.data[i]) : vectors.data[i]
      vectors.data[i] = size * (centre + value)
    }
    return { vectors, metric: randomMetric(kind, period, d, seed + 1) }
  })

/** Element (a, b) of the metric of vector i. */
export function metricAt({ vectors, metric }: Problem, i: number, a: number, b: number): number {
  const d = vectors.cols
  if (!metric) return a === b ? 1 : 0
  const row = (i % metric.rows) * metric.cols
  if (metric.cols === d * d) return metric.data[row + a * d + b]
  return a === b ? metric.data[row + a] : 0
}

/** `(x - c)^T M (x - c)` of vector i and the point c, in float64. */
export function distance(problem: Problem, i: number, c: ArrayLike<number>): number {
  const { cols: d, data } = problem.vectors
  let sum = 0
  for (let a = 0; a < d; a++) {
    for (let b = 0; b < d; b++) {
      sum += (data[i * d + a] - c[a]) * metricAt(problem, i, a, b) * (data[i * d + b] - c[b])
    }
  }
  return sum
}

/** `sum_i x_i^T |M_i| x_i` over absolute values: rounding errors of a loss are shares of this. */
export function energyOf(problem: Problem): number {
  const { rows: n, cols: d, data } = problem.vectors
  let sum = 0
  for (let i = 0; i < n; i++) {
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) {
        sum += Math.abs(data[i * d + a] * metricAt(problem, i, a, b) * data[i * d + b])
      }
    }
  }
  return sum
}

export function centroid(codebook: Matrix, j: number): Float32Array {
  return codebook.data.subarray(j * codebook.cols, (j + 1) * codebook.cols)
}

/** The loss of the best assignment to a codebook, by search through all centroids. */
export function bestLoss(problem: Problem, codebook: Matrix): number {
  let loss = 0
  for (let i = 0; i < problem.vectors.rows; i++) {
    let least = Number.POSITIVE_INFINITY
    for (let j = 0; j < codebook.rows; j++)
      least = Math.min(least, distance(problem, i, centroid(codebook, j)))
    loss += least
  }
  return loss
}
