import * as tf from '@tensorflow/tfjs-core'
import { NumericError } from '../errors.js'
import type { Random } from '../random.js'
import type { LlamaHead } from './head.js'
import { headParts } from './head-parts.js'
import { takeFloats } from './ops/tensors/take-floats.js'

/**
 * Draws a token at every position from the model's own prediction and gives the gradient of its `-log p`, summed over
 * the positions, on the hidden states. The mean of the outer products of such gradients is the Fisher information: the
 * Hessian, near the model, of the KL divergence from it.
 *
 * @param hidden the final hidden states, positions x hiddenSize
 * @returns positions x hiddenSize
 * @throws ShapeError when `hidden` is not whole rows
 * @throws NumericError when a logit is NaN or infinite
 */
export async function sampledLossGradient(
  head: LlamaHead,
  hidden: Float32Array,
  random: Random,
): Promise<Float32Array> {
  const { vocabSize, hiddenSize } = head
  const gradient = new Float32Array(hidden.length)
  for (const { first, count, of } of headParts(head, hidden)) {
    const logits = await head.logitsTensor(of(hidden))
    const predicted = tf.softmax(logits)
    logits.dispose()
    const onLogits = await takeFloats(predicted)
    for (let i = 0; i < count; i++) {
      const probabilities = onLogits.subarray(i * vocabSize, (i + 1) * vocabSize)
      // the gradient on the logits is the prediction less what was drawn
      probabilities[draw(probabilities, random, first + i)] -= 1
    }
    const tensor = tf.tensor2d(onLogits, [count, vocabSize])
    try {
      gradient.set(await head.backward(of(hidden), tensor), first * hiddenSize)
    } finally {
      tensor.dispose()
    }
  }
  return gradient
}

function draw(probabilities: Float32Array, random: Random, position: number): number {
  let sum = 0
  for (let token = 0; token < probabilities.length; token++) sum += probabilities[token]
  if (!Number.isFinite(sum)) {
    throw new NumericError(
      `hidden state ${position}: a logit is not finite. The weights are damaged, or the hidden states overflow`,
    )
  }
  let rest = random() * sum
  let token = 0
  while (token < probabilities.length - 1 && rest >= probabilities[token]) rest -= probabilities[token++]
  return token
}
