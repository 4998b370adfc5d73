import { forwardKernels } from '../../kernels/forward-kernels.js'
import type { Random } from '../../random.js'
import type { Head } from '../decoder/head.js'
import { headGradient } from './backward.js'
import { headParts } from './head-parts.js'
import { logSums } from './prediction-loss.js'

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
  head: Head,
  hidden: Float32Array,
  random: Random,
): Promise<Float32Array> {
  const { vocabSize, hiddenSize } = head
  const gradient = new Float32Array(hidden.length)
  for (const { first, count, of } of headParts(head, hidden)) {
    const onLogits = await probabilities(head, of(hidden), count, first)
    for (let i = 0; i < count; i++) {
      const own = onLogits.subarray(i * vocabSize, (i + 1) * vocabSize)
      // the gradient on the logits is the prediction less what was drawn
      own[draw(own, random)] -= 1
    }
    gradient.set(await headGradient(head, of(hidden), onLogits), first * hiddenSize)
  }
  return gradient
}

async function probabilities(head: Head, hidden: Float32Array, count: number, first: number) {
  const { vocabSize } = head
  const { allocate, release } = forwardKernels()
  const logits = allocate(count * vocabSize)
  try {
    await head.logits(hidden, logits)
    const sums = logSums(logits, count, vocabSize, first)
    return Float32Array.from(logits, (logit, at) => Math.exp(logit - sums[Math.floor(at / vocabSize)]))
  } finally {
    release(logits)
  }
}

function draw(probabilities: Float32Array, random: Random): number {
  let sum = 0
  for (let token = 0; token < probabilities.length; token++) sum += probabilities[token]
  let rest = random() * sum
  let token = 0
  while (token < probabilities.length - 1 && rest >= probabilities[token]) rest -= probabilities[token++]
  return token
}
