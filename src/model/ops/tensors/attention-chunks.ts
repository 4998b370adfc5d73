import * as tf from '@tensorflow/tfjs-core'
import type { AttentionShape } from '../ops.js'

/** Queries of a sequence that are scored at once; bounds the memory of long contexts and skips most masked scores. */
const queryChunk = 128

/** Scores that are held at once: few enough to stay near the processor. */
const heldScores = 2 ** 20

/** Stands for minus infinity: added to a score, it makes the probability exactly 0 in float32. */
const masked = -1e30

/** What becomes of a product of a query and a key; see `AttentionDescription`. */
export type ScoreShape = Pick<AttentionShape, 'softCap' | 'window'>

/** Some consecutive queries of a sequence, and the keys that they may see. */
export interface QueryChunk {
  readonly first: number
  readonly count: number
  readonly firstKey: number
  readonly keys: number
  /** count x keys: 0 where the query sees the key. */
  readonly mask: tf.Tensor2D
}

/** Cuts the queries of the last `length` of `positions` positions into chunks. */
export function queryChunks(length: number, positions: number, window: number | undefined): QueryChunk[] {
  const chunks: QueryChunk[] = []
  const before = positions - length
  for (let first = 0; first < length; first += queryChunk) {
    const count = Math.min(queryChunk, length - first)
    const firstKey = window === undefined ? 0 : Math.max(0, before + first - window + 1)
    const keys = before + first + count - firstKey
    const mask = causalMask(count, keys, window)
    chunks.push({ first, count, firstKey, keys, mask })
  }
  return chunks
}

/** Of `count` queries, whose own keys are the last ones. */
function causalMask(count: number, keys: number, window = Number.POSITIVE_INFINITY): tf.Tensor2D {
  const mask = new Float32Array(count * keys)
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < keys; j++) {
      const back = keys - count + i - j
      if (back < 0 || back >= window) mask[i * keys + j] = masked
    }
  }
  return tf.tensor2d(mask, [count, keys])
}

/** The key-value heads, of all sequences one after the other, that are attended to together; the second exclusive. */
export function headTurns(
  keyValueHeads: number,
  group: number,
  chunks: readonly QueryChunk[],
): (readonly [first: number, last: number])[] {
  const perTurn = Math.max(1, Math.floor(heldScores / (group * chunks[0].count * chunks[0].keys)))
  return Array.from({ length: Math.ceil(keyValueHeads / perTurn) }, (_, i) => [
    i * perTurn,
    Math.min((i + 1) * perTurn, keyValueHeads),
  ])
}

/** batch x length x (kvHeads * group) x headDim as (batch * kvHeads) x group x length x headDim. */
export function byHead(x: tf.Tensor4D, group: number): tf.Tensor4D {
  const [batch, length, heads, headDim] = x.shape
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [(batch * heads) / group, group, length, headDim])
}

/** The inverse of {@link byHead}: (batch * length) x (heads * headDim). */
export function byPosition(x: tf.Tensor4D, batch: number): tf.Tensor2D {
  const [keyValueHeads, group, length, headDim] = x.shape
  const heads = (keyValueHeads * group) / batch
  const stack = tf.reshape<tf.Rank.R4>(x, [batch, heads, length, headDim])
  return tf.reshape(tf.transpose(stack, [0, 2, 1, 3]), [batch * length, heads * headDim])
}

/** Heads `first` to `last - 1` of a stack of them. */
export function headsOf(x: tf.Tensor4D, first: number, last: number): tf.Tensor4D {
  const [heads, group, length, headDim] = x.shape
  if (last - first === heads) return x
  const values = group * length * headDim
  const part = tf.slice1d(tf.reshape(x, [-1]), first * values, (last - first) * values)
  return tf.reshape(part, [last - first, group, length, headDim])
}

/** Rows `first` to `first + count - 1` of each of `heads x group` matrices: heads x (group * count) x columns. */
export function rowsOf(x: tf.Tensor4D, first: number, count: number): tf.Tensor3D {
  const [heads, group, length, headDim] = x.shape
  const shape: [number, number, number] = [heads, group * count, headDim]
  if (count === length) return tf.reshape(x, shape)
  // rows of a matrix lie together; the engine copies a slice of four axes piece by piece
  const matrices = tf.reshape<tf.Rank.R2>(x, [heads * group, length * headDim])
  return tf.reshape(tf.slice2d(matrices, [0, first * headDim], [heads * group, count * headDim]), shape)
}

/**
 * @param queries heads x rows x headDim
 * @param keys heads x keys x headDim
 * @returns heads x rows x keys
 */
export function attentionScores(
  queries: tf.Tensor3D,
  keys: tf.Tensor3D,
  softCap: number | undefined,
): tf.Tensor3D {
  const scores = tf.matMul<tf.Tensor3D>(queries, keys, false, true)
  return softCap === undefined ? scores : tf.mul(tf.tanh(tf.div(scores, softCap)), softCap)
}

/**
 * The probabilities of the keys that a chunk sees.
 *
 * @param scores heads x (group * count) x keys
 * @returns of the same shape
 */
export function attentionWeights(chunk: QueryChunk, scores: tf.Tensor3D): tf.Tensor3D {
  const weights = tf.softmax(tf.add(tf.reshape(scores, [-1, chunk.count, chunk.keys]), chunk.mask))
  return tf.reshape<tf.Rank.R3>(weights, scores.shape)
}

/** `tf.concat` that takes a single part as it is. */
export function joined(parts: tf.Tensor4D[], axis: number): tf.Tensor4D {
  return parts.length === 1 ? parts[0] : tf.concat(parts, axis)
}
