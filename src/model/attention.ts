import * as tf from '@tensorflow/tfjs-core'

/** Queries of a sequence that are scored at once; bounds the memory of long contexts and skips most masked scores. */
const queryChunk = 128

/** Scores that are held at once: few enough to stay near the processor. */
const heldScores = 2 ** 20

/** Stands for minus infinity: added to a score, it makes the probability exactly 0 in float32. */
const masked = -1e30

interface QueryChunk {
  readonly first: number
  readonly count: number
  readonly firstKey: number
  readonly keys: number
  /** count x keys: 0 where the query sees the key. */
  readonly mask: tf.Tensor2D
}

/**
 * Causal attention with shared key-value heads: query head `h` reads key-value head `floor(h * kvHeads / heads)`.
 *
 * @param queries batch x length x heads x headDim
 * @param keys batch x length x kvHeads x headDim
 * @param values batch x length x kvHeads x headDim
 * @param window a position sees itself and the `window - 1` positions before it; undefined: all before it
 * @returns (batch * length) x (heads * headDim)
 */
export function causalAttention(
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  window: number | undefined,
): tf.Tensor2D {
  const [batch, length, heads, headDim] = queries.shape
  const kvHeads = keys.shape[2]
  const group = heads / kvHeads
  const byHead = (x: tf.Tensor, perPart: number) =>
    tf.reshape<tf.Rank.R4>(tf.transpose(x, [0, 2, 1, 3]), [batch * kvHeads, perPart, length, headDim])
  const asked = byHead(tf.mul(queries, 1 / Math.sqrt(headDim)), group)
  const seen = byHead(keys, 1)
  const mixed = byHead(values, 1)
  const chunks = queryChunks(length, window)
  const perTurn = Math.max(1, Math.floor(heldScores / (group * chunks[0].count * chunks[0].keys)))
  const attended: tf.Tensor4D[] = []
  for (let first = 0; first < batch * kvHeads; first += perTurn) {
    const count = Math.min(perTurn, batch * kvHeads - first)
    const part = (x: tf.Tensor4D) => tf.slice4d(x, [first, 0, 0, 0], [count, ...x.shape.slice(1)] as Shape4D)
    attended.push(tf.tidy(() => attendHeads(part(asked), part(seen), part(mixed), chunks)))
  }
  const whole = tf.reshape(joined(attended, 0), [batch, heads, length, headDim])
  return tf.reshape(tf.transpose(whole, [0, 2, 1, 3]), [batch * length, heads * headDim])
}

type Shape4D = [number, number, number, number]

/**
 * @param queries count x group x length x headDim
 * @param keys count x 1 x length x headDim
 * @param values count x 1 x length x headDim
 * @returns count x group x length x headDim
 */
function attendHeads(
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  chunks: readonly QueryChunk[],
): tf.Tensor4D {
  const [count, group, length, headDim] = queries.shape
  const rows = (x: tf.Tensor4D, first: number, size: number) =>
    size === length ? x : tf.slice4d(x, [0, 0, first, 0], [count, x.shape[1], size, headDim])
  const parts = chunks.map((chunk) => {
    const asked = tf.reshape<tf.Rank.R3>(rows(queries, chunk.first, chunk.count), [
      count,
      group * chunk.count,
      headDim,
    ])
    const seen = tf.reshape<tf.Rank.R3>(rows(keys, chunk.firstKey, chunk.keys), [count, chunk.keys, headDim])
    const mixed = tf.reshape<tf.Rank.R3>(rows(values, chunk.firstKey, chunk.keys), [
      count,
      chunk.keys,
      headDim,
    ])
    const scores = tf.reshape(tf.matMul(asked, seen, false, true), [count * group, chunk.count, chunk.keys])
    const weights = tf.softmax(tf.add(scores, chunk.mask))
    const attended = tf.matMul(tf.reshape(weights, [count, group * chunk.count, chunk.keys]), mixed)
    return tf.reshape<tf.Rank.R4>(attended, [count, group, chunk.count, headDim])
  })
  return joined(parts, 2)
}

function joined(parts: tf.Tensor4D[], axis: number): tf.Tensor4D {
  return parts.length === 1 ? parts[0] : tf.concat(parts, axis)
}

function queryChunks(length: number, window: number | undefined): QueryChunk[] {
  const chunks: QueryChunk[] = []
  for (let first = 0; first < length; first += queryChunk) {
    const count = Math.min(queryChunk, length - first)
    const firstKey = window === undefined ? 0 : Math.max(0, first - window + 1)
    const keys = first + count - firstKey
    chunks.push({ first, count, firstKey, keys, mask: causalMask(first, count, firstKey, keys, window) })
  }
  return chunks
}

function causalMask(
  first: number,
  count: number,
  firstKey: number,
  keys: number,
  window = Number.POSITIVE_INFINITY,
): tf.Tensor2D {
  const mask = new Float32Array(count * keys)
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < keys; j++) {
      const back = first + i - (firstKey + j)
      if (back < 0 || back >= window) mask[i * keys + j] = masked
    }
  }
  return tf.tensor2d(mask, [count, keys])
}
