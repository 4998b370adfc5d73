import * as tf from '@tensorflow/tfjs-core'
import { ShapeError, UnsupportedError } from '../../../common/errors.js'
import type { AttentionShape, CachePrecision, KeyValueCache, TokenRows } from '../ops.js'
import { causalAttention, continuedAttention } from './attention.js'
import { byHead, joined } from './attention-chunks.js'

/** What a cache holds: (sequences * kvHeads) x 1 x positions x headDim. */
interface Held {
  keys: tf.Tensor4D
  values: tf.Tensor4D
}

/** Of the caches that are open; undefined: nothing yet. */
const caches = new WeakMap<KeyValueCache, Held | undefined>()

/** See `Ops`. */
export function openCache(
  sequences: number,
  capacity: number,
  _shape?: AttentionShape,
  precision: CachePrecision = 'float32',
): KeyValueCache {
  if (precision !== 'float32') {
    throw new UnsupportedError(`caches in ${precision} need the engine wasm; take that one, or float32`)
  }
  const cache = { sequences, capacity, positions: 0 }
  caches.set(cache, undefined)
  return cache
}

/** See `Ops`. */
export function copyCache(cache: KeyValueCache, positions: number, capacity: number): KeyValueCache {
  if (!caches.has(cache) || positions > cache.positions || positions > capacity) {
    throw new ShapeError(
      `${positions} positions cannot be copied into a cache of ${capacity} from one with ${cache.positions}` +
        `${caches.has(cache) ? '' : ', which is closed'}`,
    )
  }
  const copy = openCache(cache.sequences, capacity)
  const held = caches.get(cache)
  if (held !== undefined && positions > 0) {
    const first = (x: tf.Tensor4D) =>
      tf.keep(tf.slice(x, [0, 0, 0, 0], [x.shape[0], x.shape[1], positions, x.shape[3]]))
    caches.set(copy, { keys: first(held.keys), values: first(held.values) })
  }
  copy.positions = positions
  return copy
}

/** See `Ops`. */
export function closeCache(cache: KeyValueCache): void {
  const held = caches.get(cache)
  if (held !== undefined) tf.dispose([held.keys, held.values])
  caches.delete(cache)
}

/** See `Ops`. */
export function attend(
  queries: tf.Tensor2D,
  keys: tf.Tensor2D,
  values: tf.Tensor2D,
  tokens: TokenRows,
  shape: AttentionShape,
  cache?: KeyValueCache,
): tf.Tensor2D {
  if (cache === undefined) return causalAttention(queries, keys, values, tokens, shape)
  const split = (x: tf.Tensor2D, heads: number) =>
    tf.reshape<tf.Rank.R4>(x, [tokens.sequences, tokens.length, heads, shape.headDim])
  return tf.tidy(() => {
    const held = extend(cache, split(keys, shape.kvHeads), split(values, shape.kvHeads))
    return continuedAttention(split(queries, shape.heads), held.keys, held.values, shape)
  })
}

function extend(cache: KeyValueCache, keys: tf.Tensor4D, values: tf.Tensor4D): Held {
  const [sequences, length] = keys.shape
  if (!caches.has(cache) || sequences !== cache.sequences || cache.positions + length > cache.capacity) {
    throw new ShapeError(
      `${sequences} sequences of ${length} more tokens do not fit the cache of ${cache.sequences} sequences, with ` +
        `${cache.positions} of ${cache.capacity} positions taken`,
    )
  }
  const before = caches.get(cache)
  const longer = (old: tf.Tensor4D | undefined, fresh: tf.Tensor4D) =>
    tf.keep(joined(old === undefined ? [byHead(fresh, 1)] : [old, byHead(fresh, 1)], 2))
  const held = { keys: longer(before?.keys, keys), values: longer(before?.values, values) }
  if (before !== undefined) tf.dispose([before.keys, before.values])
  caches.set(cache, held)
  cache.positions += length
  return held
}
