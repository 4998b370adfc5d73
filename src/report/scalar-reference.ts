import { sampleVectors } from './codebooks/codebook-group.js'

/** Weights that the search for a scalar grid looks at, and the ranges it tries on either side of 0. */
const SEARCH_WEIGHTS = 4000
const SEARCH_STEPS = 24

/**
 * The scalar grid of `2^bits` even levels that fits the weights best: from a share of the least to a share of the
 * greatest weight, both shares searched for the least squared error.
 */
export function bestScalarLevels(weights: Float32Array, bits: number): Float64Array {
  const sample = sampleVectors(weights, 1, SEARCH_WEIGHTS)
  let low = 0
  let high = 0
  for (const weight of weights) {
    low = Math.min(low, weight)
    high = Math.max(high, weight)
  }
  let best = evenLevels(low, high, bits)
  let least = squaredError(sample, best)
  for (let i = 1; i <= SEARCH_STEPS; i++) {
    for (let j = 1; j <= SEARCH_STEPS; j++) {
      const levels = evenLevels((low * i) / SEARCH_STEPS, (high * j) / SEARCH_STEPS, bits)
      const error = squaredError(sample, levels)
      if (error < least) [best, least] = [levels, error]
    }
  }
  return best
}

function evenLevels(low: number, high: number, bits: number): Float64Array {
  const steps = 2 ** bits - 1
  return Float64Array.from({ length: steps + 1 }, (_, i) => low + ((high - low) * i) / steps)
}

function squaredError(weights: Float32Array, levels: Float64Array): number {
  const low = levels[0]
  const last = levels.length - 1
  const step = (levels[last] - low) / last
  let error = 0
  for (const weight of weights) {
    const level = step > 0 ? Math.max(0, Math.min(last, Math.round((weight - low) / step))) : 0
    error += (weight - levels[level]) ** 2
  }
  return error
}

/** Signal to noise in dB of weights that each take the nearest of even levels. Plain distance, no Hessian. */
export function snrOfLevels(weights: Float32Array, levels: Float64Array): number {
  return snrDb(energy(weights), squaredError(weights, levels))
}

/** Comparisons that measuring one picture may take. */
const COMPARISONS = 2 ** 26

/**
 * Signal to noise in dB of vectors (n x d) that each take the nearest centroid (k x d) in plain distance; with many
 * centroids measured on a sample.
 */
export function snrOfNearest(vectors: Float32Array, centroids: Float32Array, d: number): number {
  const k = centroids.length / d
  const measured = sampleVectors(vectors, d, Math.max(1, Math.floor(COMPARISONS / (k * d))))
  let noise = 0
  for (let i = 0; i < measured.length; i += d) {
    let nearest = Infinity
    for (let m = 0; m < k; m++) {
      let distance = 0
      for (let a = 0; a < d; a++) distance += (measured[i + a] - centroids[m * d + a]) ** 2
      nearest = Math.min(nearest, distance)
    }
    noise += nearest
  }
  return snrDb(energy(measured), noise)
}

/** The same of weights and what stands for each. */
export function snrOfCoded(weights: Float32Array, coded: Float32Array): number {
  let noise = 0
  for (const [i, weight] of weights.entries()) noise += (weight - coded[i]) ** 2
  return snrDb(energy(weights), noise)
}

function energy(values: Float32Array): number {
  let sum = 0
  for (const value of values) sum += value ** 2
  return sum
}

function snrDb(signal: number, noise: number): number {
  return noise === 0 ? Infinity : 10 * Math.log10(signal / noise)
}

/** The midpoints between neighbours of a sorted list. */
export function midpoints(sorted: ArrayLike<number>): number[] {
  return Array.from({ length: Math.max(0, sorted.length - 1) }, (_, i) => (sorted[i] + sorted[i + 1]) / 2)
}

/** The greatest of 1, 2 and 5 times a power of ten that is not above `limit`, a number above 0. */
export function roundBelow(limit: number): number {
  const power = 10 ** Math.floor(Math.log10(limit))
  const factor = [5, 2, 1].find((candidate) => candidate * power <= limit) ?? 1
  // 5 * 0.01 is 0.05, but 3 * 0.1 would not be 0.3: written out and read back it is
  return Number((factor * power).toPrecision(1))
}
