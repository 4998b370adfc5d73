import type { Random } from '../random.js'
import type { LlamaHead } from './head.js'
import { headParts } from './head-parts.js'
import { probabilitiesOf } from './probabilities.js'
import { drawToken } from './sampling.js'

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
  const probabilities = new Float64Array(vocabSize)
  for (const part of headParts(head, hidden)) {
    const logits = await head.logits(part.of(hidden))
    for (let i = 0; i < part.count; i++) {
      const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize)
      probabilitiesOf(row, probabilities, part.first + i)
      const drawn = drawToken(row, 1, random)
      row.set(probabilities)
      row[drawn] = probabilities[drawn] - 1
    }
    gradient.set(await head.backward(part.of(hidden), logits), part.first * hiddenSize)
  }
  return gradient
}
