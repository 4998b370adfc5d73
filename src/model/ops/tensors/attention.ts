import * as tf from '@tensorflow/tfjs-core'
import type { AttentionShape, TokenRows } from '../ops.js'
import {
  attentionScores,
  attentionWeights,
  byHead,
  byPosition,
  headsOf,
  headTurns,
  joined,
  type QueryChunk,
  queryChunks,
  rowsOf,
  type ScoreShape,
} from './attention-chunks.js'
import { attentionGradients } from './attention-gradient.js'
import { differentiable } from './differentiable.js'

/**
 * Causal attention with shared key-value heads: query head `h` reads key-value head `floor(h * kvHeads / heads)`. Its
 * scores are computed again for the gradient, so that they are never all held.
 *
 * @param queries tokens x (heads * headDim)
 * @param keys tokens x (kvHeads * headDim)
 * @param values tokens x (kvHeads * headDim)
 * @returns tokens x (heads * headDim)
 */
export function causalAttention(
  queries: tf.Tensor2D,
  keys: tf.Tensor2D,
  values: tf.Tensor2D,
  { sequences, length }: TokenRows,
  shape: AttentionShape,
): tf.Tensor2D {
  const { heads, kvHeads, headDim, scale } = shape
  const stacked = (x: tf.Tensor2D, count: number, group: number) =>
    byHead(tf.reshape(x, [sequences, length, count, headDim]), group)
  const flat = (x: tf.Tensor4D) => byPosition(x, sequences)
  return differentiable([queries, keys, values], () => {
    const asked = stacked(tf.mul(queries, scale), heads, heads / kvHeads)
    const seen = stacked(keys, kvHeads, 1)
    const mixed = stacked(values, kvHeads, 1)
    const attended = attendByHead(asked, seen, mixed, shape)
    return {
      value: flat(attended),
      saved: [asked, seen, mixed, attended],
      gradients: (up, saved: tf.Tensor4D[]) => {
        const onAttended = stacked(up, heads, heads / kvHeads)
        const [onAsked, onSeen, onMixed] = attentionGradients(saved, onAttended, shape)
        return [tf.mul(flat(onAsked), scale), flat(onSeen), flat(onMixed)]
      },
    }
  })
}

/**
 * Attention of queries over the keys of all positions up to theirs. Without a gradient.
 *
 * @param queries sequences x length x heads x headDim: of the last positions
 * @param keys (sequences * kvHeads) x 1 x positions x headDim
 * @param values of the same shape
 * @returns (sequences * length) x (heads * headDim)
 */
export function continuedAttention(
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  shape: AttentionShape,
): tf.Tensor2D {
  const asked = byHead(tf.mul(queries, shape.scale), shape.heads / shape.kvHeads)
  return byPosition(attendByHead(asked, keys, values, shape), queries.shape[0])
}

/**
 * @param queries heads x group x length x headDim, scaled: of the last positions
 * @param keys heads x 1 x positions x headDim
 * @param values heads x 1 x positions x headDim
 * @returns heads x group x length x headDim
 */
function attendByHead(
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  shape: ScoreShape,
): tf.Tensor4D {
  const [heads, group, length] = queries.shape
  const chunks = queryChunks(length, keys.shape[2], shape.window)
  const turns = headTurns(heads, group, chunks).map(([first, last]) =>
    tf.tidy(() => {
      const part = (x: tf.Tensor4D) => headsOf(x, first, last)
      return attendTurn(part(queries), part(keys), part(values), chunks, shape)
    }),
  )
  return joined(turns, 0)
}

function attendTurn(
  queries: tf.Tensor4D,
  keys: tf.Tensor4D,
  values: tf.Tensor4D,
  chunks: readonly QueryChunk[],
  { softCap }: ScoreShape,
): tf.Tensor4D {
  const [heads, group, , headDim] = queries.shape
  const parts = chunks.map((chunk) =>
    tf.tidy(() => {
      const asked = rowsOf(queries, chunk.first, chunk.count)
      const seen = rowsOf(keys, chunk.firstKey, chunk.keys)
      const mixed = rowsOf(values, chunk.firstKey, chunk.keys)
      const weights = attentionWeights(chunk, attentionScores(asked, seen, softCap))
      return tf.reshape<tf.Rank.R4>(tf.matMul(weights, mixed), [heads, group, chunk.count, headDim])
    }),
  )
  return joined(parts, 2)
}
