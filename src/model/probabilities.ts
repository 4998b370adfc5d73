import { NumericError } from '../errors.js'
import { expOfNegative } from './exp.js'

/**
 * The probabilities that logits stand for.
 *
 * @param logits one per token of the vocabulary
 * @param probabilities receives them, in float64
 * @param position how the error names the position
 * @returns `log(sum(exp(logits)))`
 * @throws NumericError when a logit is NaN or infinite
 */
export function probabilitiesOf(logits: Float32Array, probabilities: Float64Array, position: number): number {
  let largest = Number.NEGATIVE_INFINITY
  // stays 0 as long as all logits are finite
  let zero = 0
  for (let token = 0; token < logits.length; token++) {
    zero += logits[token] * 0
    if (logits[token] > largest) largest = logits[token]
  }
  if (zero !== 0) throw notFinite(logits, position)
  let sum = 0
  for (let token = 0; token < logits.length; token++) {
    const share = expOfNegative(logits[token] - largest)
    probabilities[token] = share
    sum += share
  }
  const scale = 1 / sum
  for (let token = 0; token < logits.length; token++) probabilities[token] *= scale
  return largest + Math.log(sum)
}

function notFinite(logits: Float32Array, position: number): NumericError {
  const token = logits.findIndex((logit) => !Number.isFinite(logit))
  return new NumericError(
    `hidden state ${position}: the logit of token ${token} is ${logits[token]}; expected finite numbers. ` +
      'The weights are damaged, or the hidden states overflow',
  )
}
