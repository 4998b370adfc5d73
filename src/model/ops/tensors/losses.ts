import * as tf from '@tensorflow/tfjs-core'

/**
 * How far predictions are from others, row by row: KL(expected || actual), in nats.
 *
 * @param expected logits, rows x cols
 * @param actual logits, rows x cols
 * @returns the divergence of each row; and its gradient on the actual logits, rows x cols: the difference of the
 *   probabilities, the actual less the expected
 */
export function divergencesOfLogits(
  expected: Float32Array,
  actual: Float32Array,
  rows: number,
  cols: number,
): { divergences: Float32Array; onActual: Float32Array } {
  const { divergences, onActual } = tf.tidy(() =>
    compare(tf.tensor2d(expected, [rows, cols]), tf.tensor2d(actual, [rows, cols])),
  )
  const result = {
    divergences: divergences.dataSync<'float32'>(),
    onActual: onActual.dataSync<'float32'>(),
  }
  tf.dispose([divergences, onActual])
  return result
}

/** The probabilities of each row, rows x cols. */
export function softmaxOfLogits(logits: Float32Array, rows: number, cols: number): Float32Array {
  const shares = tf.tidy(() => tf.softmax(tf.tensor2d(logits, [rows, cols])))
  const values = shares.dataSync<'float32'>()
  shares.dispose()
  return values
}

function compare(expected: tf.Tensor2D, actual: tf.Tensor2D) {
  const known = tf.softmax(expected)
  const predicted = tf.softmax(actual)
  const gaps = tf.sum(tf.mul(known, tf.sub(expected, actual)), -1)
  return {
    divergences: tf.add(gaps, tf.sub(logSums(actual, predicted), logSums(expected, known))),
    onActual: tf.sub<tf.Tensor2D>(predicted, known),
  }
}

/** `log(sum(exp(logits)))` of each row: what its largest logit exceeds the logarithm of its probability by. */
function logSums(logits: tf.Tensor2D, probabilities: tf.Tensor2D): tf.Tensor {
  return tf.sub(tf.max(logits, -1), tf.log(tf.max(probabilities, -1)))
}
