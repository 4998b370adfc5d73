import { randomGenerator } from '../common/random.js'
import type { Clustering, ClusterProblem } from '../kernels/contract.js'
import { solveSymmetric } from './small-solve.js'

/**
 * How the first centroids are chosen. `'mahalanobis'`: vectors evenly spaced by their Mahalanobis distance to the mean
 * (van Baalen et al. 2024, section 3.2). `'kmeans++'`: drawn with a probability proportional to the distance to the
 * nearest seed so far. `'cdf'`, of scalars only: the middles of equally long stretches of the sorted values.
 */
export type KmeansInit = 'mahalanobis' | 'kmeans++' | 'cdf'

export const kmeansInits: readonly KmeansInit[] = ['mahalanobis', 'kmeans++', 'cdf']

/**
 * Chooses `k` seeds among the vectors of each group of `clustering`, which was opened on `problem`, for its centroids.
 *
 * - `mahalanobis`: sort by Mahalanobis distance to the mean, take evenly spaced vectors (van Baalen et al. 2024)
 * - `kmeans++`: draw each seed with probability proportional to its distance, in the metric, to the seeds before it
 * - `cdf`: evenly spaced quantiles, d = 1 only
 *
 * With fewer vectors than seeds, vectors repeat.
 *
 * @param seeds of the random numbers, one per group
 */
export function seedCodebooks(
  init: KmeansInit,
  clustering: Clustering,
  problem: ClusterProblem,
  seeds: readonly number[],
): void {
  const { d, k, groups } = problem
  if (init === 'kmeans++') {
    seedByDistance(clustering, problem, seeds)
    return
  }
  for (const [group, vectors] of groups.entries()) {
    if (vectors.length === 0) continue
    const isCdf = init === 'cdf'
    const keys = isCdf ? Float64Array.from(vectors) : mahalanobisDistances(vectors, vectors.length / d, d)
    const ranked = evenRanks(keys.length, k, isCdf ? 'middles' : 'ends')
    const order = sortedBy(keys)
    for (let j = 0; j < k; j++) clustering.placeSeed(group, j, order[ranked[j]])
  }
}

/** Indices of `keys` in rising order of the keys, equal ones in their own order. */
function sortedBy(keys: Float64Array): Uint32Array {
  // typed arrays sort numbers many times faster than by a function that compares
  const sorted = keys.slice().sort()
  const order = new Uint32Array(keys.length)
  const equals = new Uint32Array(keys.length)
  for (let i = 0; i < keys.length; i++) {
    let [low, high] = [0, keys.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (sorted[middle] < keys[i]) low = middle + 1
      else high = middle
    }
    order[low + equals[low]++] = i
  }
  return order
}

/** k of n ranks: from end to end, or the middles of k equal stretches. */
function evenRanks(n: number, k: number, from: 'ends' | 'middles'): Uint32Array {
  return Uint32Array.from({ length: k }, (_, j) =>
    from === 'middles' ? Math.floor(((j + 0.5) * n) / k) : Math.round((j * (n - 1)) / Math.max(1, k - 1)),
  )
}

/** Squared Mahalanobis distances of the vectors to their mean, under their own covariance. */
function mahalanobisDistances(vectors: Float32Array, n: number, d: number): Float64Array {
  const mean = new Float64Array(d)
  for (let i = 0; i < n; i++) for (let a = 0; a < d; a++) mean[a] += vectors[i * d + a] / n
  const covariance = new Float64Array(d * d)
  const centred = new Float64Array(d)
  for (let i = 0; i < n; i++) {
    for (let a = 0; a < d; a++) centred[a] = vectors[i * d + a] - mean[a]
    for (let a = 0; a < d; a++)
      for (let b = 0; b < d; b++) covariance[a * d + b] += (centred[a] * centred[b]) / n
  }
  const precision = inverseOf(covariance, d)
  const distances = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    let distance = 0
    for (let a = 0; a < d; a++) centred[a] = vectors[i * d + a] - mean[a]
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) distance += centred[a] * precision[a * d + b] * centred[b]
    }
    distances[i] = distance
  }
  return distances
}

/** The inverse of a symmetric d x d matrix, its pseudoinverse where it has none. */
function inverseOf(matrix: Float64Array, d: number): Float64Array {
  const inverse = new Float64Array(d * d)
  const unit = new Float64Array(d)
  for (let a = 0; a < d; a++) {
    unit.fill(0)
    unit[a] = 1
    solveSymmetric(matrix, 0, unit, 0, d, inverse.subarray(a * d, (a + 1) * d))
  }
  return inverse
}

function seedByDistance(
  clustering: Clustering,
  { d, k, groups }: ClusterProblem,
  seeds: readonly number[],
): void {
  const randoms = seeds.map(randomGenerator)
  const uniforms = new Float64Array(groups.length)
  for (const [group, vectors] of groups.entries()) {
    clustering.active[group] = Number(vectors.length > 0)
    if (vectors.length > 0) {
      clustering.placeSeed(group, 0, Math.floor(randoms[group]() * (vectors.length / d)))
    }
  }
  for (let j = 1; j < k; j++) {
    for (const [group, random] of randoms.entries()) uniforms[group] = random()
    clustering.drawSeeds(j, uniforms)
  }
}
