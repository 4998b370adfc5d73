import * as tf from '@tensorflow/tfjs-core'
import {
  attentionWeights,
  byHead,
  byPosition,
  headsOf,
  headTurns,
  joined,
  type QueryChunk,
  queryChunks,
  rowsOf,
} from './attention-chunks.js'
import { attentionGradients } from './attention-gradient.js'

/**
 * Causal attention with shared key-value heads: query head `h` reads key-value head `floor(h * kvHeads / heads)`.
 * Differentiable; its scores are computed again for the gradient, so that they are never all held.
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
  const group = heads / keys.shape[2]
  const attention = tf.customGrad((...args) => {
    const [q, k, v, save] = args as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D, tf.GradSaveFunc]
    const asked = byHead(tf.mul(q, 1 / Math.sqrt(headDim)), group)
    const seen = byHead(k, 1)
    const mixed = byHead(v, 1)
    const attended = attend(asked, seen, mixed, window)
    save([asked, seen, mixed, attended])
    return {
      value: tf.reshape(byPosition(attended, batch), [batch * length, heads * headDim]),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) =>
        tf.tidy(() => {
          const up = byHead(tf.reshape(dy, [batch, length, heads, headDim]), group)
          const [onAsked, onSeen, onMixed] = attentionGradients(saved as tf.Tensor4D[], up, window)
          const onQueries = tf.mul(byPosition(onAsked, batch), 1 / Math.sqrt(headDim))
          return [onQueries, byPosition(onSeen, batch), byPosition(onMixed, batch)]
        }),
    }
  })
  return attention(queries, keys, values) as tf.Tensor2D
}

/**
 * @param queries heads x group x length x headDim
 * @param keys heads x 1 x length x headDim
 * @param values heads x 1 x length x headDim
 * @returns heads x group x length x headDim
 */
function attend(
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  window: number | undefined,
): tf.Tensor4D {
  const [heads, group, length] = queries.shape
  const chunks = queryChunks(length, window)
  const turns = headTurns(heads, group, chunks).map(([first, last]) =>
    tf.tidy(() => {
      const part = (x: tf.Tensor4D) => headsOf(x, first, last)
      return attendTurn(part(queries), part(keys), part(values), chunks)
    }),
  )
  return joined(turns, 0)
}

function attendTurn(
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  chunks: readonly QueryChunk[],
): tf.Tensor4D {
  const [heads, group, , headDim] = queries.shape
  const parts = chunks.map((chunk) => {
    const asked = rowsOf(queries, chunk.first, chunk.count)
    const seen = rowsOf(keys, chunk.firstKey, chunk.keys)
    const mixed = rowsOf(values, chunk.firstKey, chunk.keys)
    const attended = tf.matMul(attentionWeights(chunk, asked, seen), mixed)
    return tf.reshape<tf.Rank.R4>(attended, [heads, group, chunk.count, headDim])
  })
  return joined(parts, 2)
}
