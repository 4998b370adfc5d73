import { assignNearest, centroidNorms, projectVectors } from '../kernels/reference/assign.js'
import { type Random, randomGenerator } from '../random.js'
import type { Metric } from './metric.js'
import { solveSymmetric } from './small-solve.js'

/** How the first centroids are chosen: see {@link seedCodebook}. */
export type KmeansInit = 'mahalanobis' | 'kmeans++' | 'cdf'

export const kmeansInits: readonly KmeansInit[] = ['mahalanobis', 'kmeans++', 'cdf']

/**
 * Chooses `k` seeds among the `n` vectors (n x d) and writes them to `codebook` (k x d).
 *
 * - `mahalanobis`: sort by Mahalanobis distance to the mean, take evenly spaced vectors (van Baalen et al. 2024)
 * - `kmeans++`: draw each seed with probability proportional to its distance, in the metric, to the seeds before it
 * - `cdf`: evenly spaced quantiles, d = 1 only
 *
 * With fewer vectors than seeds, vectors repeat.
 */
export function seedCodebook(
  init: KmeansInit,
  vectors: Float32Array,
  n: number,
  d: number,
  metric: Metric,
  k: number,
  seed: number,
  codebook: Float32Array,
): void {
  if (init === 'kmeans++') seedByDistance(vectors, n, d, metric, k, randomGenerator(seed), codebook)
  else if (init === 'mahalanobis') {
    takeEvenly(sortedBy(mahalanobisDistances(vectors, n, d)), 'ends', vectors, d, k, codebook)
  } else {
    takeEvenly(sortedBy(Float64Array.from(vectors)), 'middles', vectors, d, k, codebook)
  }
}

function sortedBy(keys: Float64Array): Uint32Array {
  return Uint32Array.from(keys.keys()).sort((i, j) => keys[i] - keys[j] || i - j)
}

/** Takes k of the vectors in `order`: from end to end, or from the middles of k equal stretches. */
function takeEvenly(
  order: Uint32Array,
  from: 'ends' | 'middles',
  vectors: Float32Array,
  d: number,
  k: number,
  codebook: Float32Array,
): void {
  const n = order.length
  for (let j = 0; j < k; j++) {
    const rank =
      from === 'middles' ? Math.floor(((j + 0.5) * n) / k) : Math.round((j * (n - 1)) / Math.max(1, k - 1))
    const at = order[rank] * d
    codebook.set(vectors.subarray(at, at + d), j * d)
  }
}

/** Squared Mahalanobis distances of the vectors to their mean, under their own covariance. */
function mahalanobisDistances(vectors: Float32Array, n: number, d: number): Float64Array {
  const mean = new Float64Array(d)
  for (let i = 0; i < n * d; i++) mean[i % d] += vectors[i] / n
  const covariance = new Float64Array(d * d)
  const centred = new Float64Array(d)
  for (let i = 0; i < n; i++) {
    for (let a = 0; a < d; a++) centred[a] = vectors[i * d + a] - mean[a]
    for (let a = 0; a < d; a++)
      for (let b = 0; b < d; b++) covariance[a * d + b] += (centred[a] * centred[b]) / n
  }
  const distances = new Float64Array(n)
  const whitened = new Float64Array(d)
  for (let i = 0; i < n; i++) {
    for (let a = 0; a < d; a++) centred[a] = vectors[i * d + a] - mean[a]
    solveSymmetric(covariance, 0, centred, 0, d, whitened)
    for (let a = 0; a < d; a++) distances[i] += centred[a] * whitened[a]
  }
  return distances
}

function seedByDistance(
  vectors: Float32Array,
  n: number,
  d: number,
  metric: Metric,
  k: number,
  random: Random,
  codebook: Float32Array,
): void {
  const projected = new Float64Array(n * d)
  const energies = new Float64Array(n)
  projectVectors(vectors, n, d, metric.data, metric.period, projected, energies)
  const norms = new Float64Array(metric.period)
  const scores = new Float64Array(n)
  const assignments = new Uint16Array(n)
  const nearest = new Float64Array(n).fill(Number.POSITIVE_INFINITY)
  let chosen = Math.floor(random() * n)
  for (let j = 0; j < k; j++) {
    const centroid = vectors.subarray(chosen * d, chosen * d + d)
    codebook.set(centroid, j * d)
    centroidNorms(centroid, 1, d, metric.data, metric.period, norms)
    assignNearest(projected, n, d, centroid, 1, norms, metric.period, assignments, scores)
    let total = 0
    for (let i = 0; i < n; i++) {
      nearest[i] = Math.max(0, Math.min(nearest[i], scores[i] + energies[i]))
      total += nearest[i]
    }
    chosen = total > 0 ? drawProportionally(nearest, total, random) : Math.floor(random() * n)
  }
}

function drawProportionally(shares: Float64Array, total: number, random: Random): number {
  let rest = random() * total
  for (let i = 0; i < shares.length; i++) {
    rest -= shares[i]
    if (rest < 0) return i
  }
  return shares.length - 1
}
