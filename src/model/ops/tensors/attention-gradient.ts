import * as tf from '@tensorflow/tfjs-core'
import {
  attentionScores,
  attentionWeights,
  headsOf,
  headTurns,
  joined,
  type QueryChunk,
  queryChunks,
  rowsOf,
  type ScoreShape,
} from './attention-chunks.js'

/**
 * The gradients of attention on its queries, keys and values, head by head and chunk by chunk as the forward pass. With
 * `P = softmax(Q K^T)`, `O = P V` and the gradient `dO`:
 *
 *     dV = P^T dO     dS = P * (dO V^T - rowSums(dO * O))     dQ = dS K     dK = dS^T Q
 *
 * With a soft cap `c`, `S = c tanh(Q K^T / c)` and `dS` is multiplied by its slope, `1 - (S / c)^2`.
 *
 * @param saved scaled queries (heads x group x length x headDim), keys and values (heads x 1 x length x headDim), and
 *   `O`, of the shape of the queries
 * @param outputGradient `dO`, of the same shape
 * @returns `dQ`, `dK`, `dV`
 */
export function attentionGradients(
  saved: readonly tf.Tensor4D[],
  outputGradient: tf.Tensor4D,
  { softCap, window }: ScoreShape,
): [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D] {
  const [heads, group, length] = outputGradient.shape
  const chunks = queryChunks(length, length, window)
  const turns = headTurns(heads, group, chunks).map(([first, last]) =>
    tf.tidy(() => {
      const [queries, keys, values, output, up] = [...saved, outputGradient].map((x) =>
        headsOf(x, first, last),
      )
      const sums = tf.sum<tf.Tensor4D>(tf.mul(up, output), -1, true)
      return turnGradients({ queries, keys, values, up, sums, softCap }, chunks)
    }),
  )
  const whole = (index: 0 | 1 | 2) =>
    joined(
      turns.map((turn) => turn[index]),
      0,
    )
  return [whole(0), whole(1), whole(2)]
}

interface Turn {
  readonly queries: tf.Tensor4D
  readonly keys: tf.Tensor4D
  readonly values: tf.Tensor4D
  /** `dO`. */
  readonly up: tf.Tensor4D
  /** `rowSums(dO * O)`, heads x group x length x 1. */
  readonly sums: tf.Tensor4D
  readonly softCap: number | undefined
}

function turnGradients(turn: Turn, chunks: readonly QueryChunk[]): [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D] {
  const length = turn.keys.shape[2]
  const onQueries: tf.Tensor4D[] = []
  let onKeys: tf.Tensor4D | undefined
  let onValues: tf.Tensor4D | undefined
  for (const chunk of chunks) {
    const gradients = tf.tidy(() => {
      const { queries, keys, values } = chunkGradients(turn, chunk)
      return {
        queries,
        keys: added(onKeys, padded(keys, chunk, length)),
        values: added(onValues, padded(values, chunk, length)),
      }
    })
    tf.dispose([onKeys ?? [], onValues ?? []])
    onQueries.push(gradients.queries)
    onKeys = gradients.keys
    onValues = gradients.values
  }
  return [joined(onQueries, 2), onKeys as tf.Tensor4D, onValues as tf.Tensor4D]
}

/** The gradients on a chunk's queries, and on the keys and values that it sees. */
function chunkGradients({ queries, keys, values, up, sums, softCap }: Turn, chunk: QueryChunk) {
  const [heads, group, , headDim] = queries.shape
  const asked = rowsOf(queries, chunk.first, chunk.count)
  const seen = rowsOf(keys, chunk.firstKey, chunk.keys)
  const mixed = rowsOf(values, chunk.firstKey, chunk.keys)
  const onOutput = rowsOf(up, chunk.first, chunk.count)
  const scores = attentionScores(asked, seen, softCap)
  const weights = attentionWeights(chunk, scores)
  const onWeights = tf.matMul(onOutput, mixed, false, true)
  const onCapped = tf.mul<tf.Tensor3D>(weights, tf.sub(onWeights, rowsOf(sums, chunk.first, chunk.count)))
  const onScores = softCap === undefined ? onCapped : tf.mul<tf.Tensor3D>(onCapped, capSlope(scores, softCap))
  return {
    queries: tf.reshape<tf.Rank.R4>(tf.matMul(onScores, seen), [heads, group, chunk.count, headDim]),
    keys: tf.matMul<tf.Tensor3D>(onScores, asked, true, false),
    values: tf.matMul<tf.Tensor3D>(weights, onOutput, true, false),
  }
}

/** Of capped scores. */
function capSlope(scores: tf.Tensor3D, softCap: number): tf.Tensor3D {
  return tf.sub(1, tf.square(tf.div(scores, softCap)))
}

/** The rows of a chunk's keys among zeros: heads x 1 x length x headDim. */
function padded(rows: tf.Tensor3D, { firstKey, keys }: QueryChunk, length: number): tf.Tensor4D {
  const [heads, , headDim] = rows.shape
  const whole =
    keys === length
      ? rows
      : tf.pad3d(rows, [
          [0, 0],
          [firstKey, length - firstKey - keys],
          [0, 0],
        ])
  return tf.reshape(whole, [heads, 1, length, headDim])
}

function added(sum: tf.Tensor4D | undefined, term: tf.Tensor4D): tf.Tensor4D {
  return sum === undefined ? term : tf.add(sum, term)
}
