import * as tf from '@tensorflow/tfjs-core'

/** Queries of one head that are scored at once; bounds the memory of long contexts and skips most masked scores. */
const queryChunk = 512

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
 * Made of plain 2-D products, one per sequence and key-value head, because the wasm engine's batched and transposed
 * products are ten times slower than those.
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
  const scaled = tf.mul(queries, 1 / Math.sqrt(headDim))
  const queryParts = splitByHead(tf.transpose(scaled, [0, 2, 1, 3]), batch, kvHeads)
  const keyParts = splitByHead(tf.transpose(keys, [0, 2, 3, 1]), batch, kvHeads)
  const valueParts = splitByHead(tf.transpose(values, [0, 2, 1, 3]), batch, kvHeads)
  const chunks = queryChunks(length, window)
  const attended = queryParts.map((part, i) =>
    tf.tidy(() => attendHead(part, keyParts[i], valueParts[i], chunks)),
  )
  const byHead = tf.reshape(tf.concat(attended), [batch, heads, length, headDim])
  return tf.reshape(tf.transpose(byHead, [0, 2, 1, 3]), [batch * length, heads * headDim])
}

/** Cuts batch x (kvHeads * n) x ... into batch * kvHeads tensors 1 x n x .... In two steps: a cut reads all it cuts. */
function splitByHead(tensor: tf.Tensor, batch: number, kvHeads: number): tf.Tensor4D[] {
  return tf.split(tensor, batch).flatMap((sequence) => tf.split(sequence, kvHeads, 1) as tf.Tensor4D[])
}

/**
 * @param queries 1 x group x length x headDim
 * @param keys 1 x 1 x headDim x length
 * @param values 1 x 1 x length x headDim
 * @returns 1 x group x length x headDim
 */
function attendHead(
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  chunks: readonly QueryChunk[],
): tf.Tensor4D {
  const [, group, length, headDim] = queries.shape
  const parts = chunks.map(({ first, count, firstKey, keys: seen, mask }) => {
    const asked = count === length ? queries : tf.slice(queries, [0, 0, first, 0], [1, group, count, headDim])
    const key = seen === length ? keys : tf.slice(keys, [0, 0, 0, firstKey], [1, 1, headDim, seen])
    const value = seen === length ? values : tf.slice(values, [0, 0, firstKey, 0], [1, 1, seen, headDim])
    const scores = tf.matMul(
      tf.reshape<tf.Rank.R2>(asked, [group * count, headDim]),
      tf.reshape<tf.Rank.R2>(key, [headDim, seen]),
    )
    const weights = tf.softmax(tf.add(tf.reshape(scores, [group, count, seen]), mask))
    const mixed = tf.matMul(
      tf.reshape<tf.Rank.R2>(weights, [group * count, seen]),
      tf.reshape<tf.Rank.R2>(value, [seen, headDim]),
    )
    return tf.reshape<tf.Rank.R4>(mixed, [1, group, count, headDim])
  })
  return parts.length === 1 ? parts[0] : tf.concat(parts, 2)
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
