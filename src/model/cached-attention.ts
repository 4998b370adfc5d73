import type { LlamaConfig } from './config.js'

/** Keys and values of the positions that one block has seen, for a number of sequences of equal length. */
export interface AttentionCache {
  readonly sequences: number
  /** Positions there is room for. */
  readonly capacity: number
  /** sequences x kvHeads x capacity x headDim. */
  readonly keys: Float32Array
  readonly values: Float32Array
}

/** The bytes of a cache for one sequence and one block. */
export function cacheBytes(config: LlamaConfig, capacity: number): number {
  return 2 * 4 * config.kvHeads * capacity * config.headDim
}

/** A cache with room for `capacity` positions. */
export function attentionCache(config: LlamaConfig, sequences: number, capacity: number): AttentionCache {
  const size = sequences * config.kvHeads * capacity * config.headDim
  return { sequences, capacity, keys: new Float32Array(size), values: new Float32Array(size) }
}

/** Puts the keys or values of one position (sequences x kvHeads x headDim) into their place in the cache. */
export function storePosition(
  cache: AttentionCache,
  store: Float32Array,
  position: number,
  fresh: Float32Array,
  headDim: number,
): void {
  for (let row = 0; row * headDim < fresh.length; row++) {
    const vector = fresh.subarray(row * headDim, (row + 1) * headDim)
    store.set(vector, (row * cache.capacity + position) * headDim)
  }
}

/**
 * Attention of the token at `position`, one per sequence, over the cached positions up to it. In plain loops: the
 * engines would copy the whole cache at every token.
 *
 * @param queries sequences x heads x headDim
 * @returns sequences x (heads * headDim)
 */
export function attendCached(
  config: LlamaConfig,
  cache: AttentionCache,
  queries: Float32Array,
  position: number,
): Float32Array {
  const { heads, kvHeads, headDim, slidingWindow } = config
  const first = slidingWindow === undefined ? 0 : Math.max(0, position - slidingWindow + 1)
  const scores = new Float64Array(position + 1 - first)
  const attended = new Float32Array(queries.length)
  const group = heads / kvHeads
  for (let row = 0; row * headDim < queries.length; row++) {
    const query = queries.subarray(row * headDim, (row + 1) * headDim)
    const start = (Math.floor(row / group) * cache.capacity + first) * headDim
    scoreKeys(query, cache.keys, start, scores)
    softmaxInPlace(scores)
    mixValues(scores, cache.values, start, attended.subarray(row * headDim, (row + 1) * headDim))
  }
  return attended
}

function scoreKeys(query: Float32Array, keys: Float32Array, start: number, scores: Float64Array): void {
  const headDim = query.length
  const scale = 1 / Math.sqrt(headDim)
  const whole = scores.length - (scores.length % 4)
  let at = start
  // four positions at a time: four sums that need not wait for one another
  for (let i = 0; i < whole; i += 4, at += 4 * headDim) {
    let a = 0
    let b = 0
    let c = 0
    let d = 0
    for (let j = 0, k = at; j < headDim; j++, k++) {
      const q = query[j]
      a += q * keys[k]
      b += q * keys[k + headDim]
      c += q * keys[k + 2 * headDim]
      d += q * keys[k + 3 * headDim]
    }
    scores[i] = a * scale
    scores[i + 1] = b * scale
    scores[i + 2] = c * scale
    scores[i + 3] = d * scale
  }
  for (let i = whole; i < scores.length; i++, at += headDim) {
    let sum = 0
    for (let j = 0; j < headDim; j++) sum += query[j] * keys[at + j]
    scores[i] = sum * scale
  }
}

function softmaxInPlace(scores: Float64Array): void {
  let largest = Number.NEGATIVE_INFINITY
  for (let i = 0; i < scores.length; i++) if (scores[i] > largest) largest = scores[i]
  let sum = 0
  for (let i = 0; i < scores.length; i++) {
    scores[i] = Math.exp(scores[i] - largest)
    sum += scores[i]
  }
  for (let i = 0; i < scores.length; i++) scores[i] /= sum
}

function mixValues(weights: Float64Array, values: Float32Array, start: number, target: Float32Array): void {
  const headDim = target.length
  const whole = weights.length - (weights.length % 4)
  let at = start
  // four positions at a time: each element of the target is loaded and stored a quarter as often
  for (let i = 0; i < whole; i += 4, at += 4 * headDim) {
    const a = weights[i]
    const b = weights[i + 1]
    const c = weights[i + 2]
    const d = weights[i + 3]
    for (let j = 0, k = at; j < headDim; j++, k++) {
      target[j] +=
        a * values[k] + b * values[k + headDim] + c * values[k + 2 * headDim] + d * values[k + 3 * headDim]
    }
  }
  for (let i = whole; i < weights.length; i++, at += headDim) {
    for (let j = 0; j < headDim; j++) target[j] += weights[i] * values[at + j]
  }
}
