import { NumericError } from '../errors.js'
import { expOfNegative } from './exp.js'

/** How well a model predicts a text. */
export interface Scores {
  /** `exp(nll)`. */
  readonly perplexity: number
  /** Mean negative log-likelihood, in nats per scored token. */
  readonly nll: number
  /** Mean KL(reference || model), in nats per scored token; with a reference only. */
  readonly klDivergence?: number
  /** Share of the scored tokens where reference and model give the same token the highest logit. */
  readonly top1Agreement?: number
  /** Scored tokens. */
  readonly tokens: number
}

/** Sums over scored tokens, in float64. */
export interface ScoreSums {
  tokens: number
  nll: number
  kl: number
  agreements: number
}

/** Sums of nothing yet. */
export function emptySums(): ScoreSums {
  return { tokens: 0, nll: 0, kl: 0, agreements: 0 }
}

/** Means of the sums; the comparison with a reference only where `compared`. */
export function meanScores({ tokens, nll, kl, agreements }: ScoreSums, compared: boolean): Scores {
  const plain = { perplexity: Math.exp(nll / tokens), nll: nll / tokens, tokens }
  if (!compared) return plain
  return { ...plain, klDivergence: kl / tokens, top1Agreement: agreements / tokens }
}

/** One position's distribution: its logits and what makes probabilities of them. */
export interface Prediction {
  readonly logits: Float32Array
  /** `log(sum(exp(logits)))`, in float64. */
  readonly logSumExp: number
  /** The token with the highest logit; the first of several. */
  readonly top: number
}

/**
 * @param logits one per token of the vocabulary
 * @param where how the error names the position
 * @param probabilities filled with the probability of each token, where given
 * @throws NumericError when a logit is NaN or infinite
 */
export function prediction(
  logits: Float32Array,
  where: () => string,
  probabilities?: Float64Array,
): Prediction {
  const top = topToken(logits, where)
  const largest = logits[top]
  let sum = 0
  if (probabilities === undefined) {
    for (let token = 0; token < logits.length; token++) sum += expOfNegative(logits[token] - largest)
  } else {
    for (let token = 0; token < logits.length; token++) {
      const share = expOfNegative(logits[token] - largest)
      probabilities[token] = share
      sum += share
    }
    const scale = 1 / sum
    for (let token = 0; token < logits.length; token++) probabilities[token] *= scale
  }
  return { logits, logSumExp: largest + Math.log(sum), top }
}

function topToken(logits: Float32Array, where: () => string): number {
  let top = 0
  let largest = Number.NEGATIVE_INFINITY
  // stays 0 as long as all logits are finite
  let zero = 0
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token]
    zero += logit * 0
    if (logit > largest) {
      largest = logit
      top = token
    }
  }
  if (zero === 0) return top
  const token = logits.findIndex((logit) => !Number.isFinite(logit))
  throw new NumericError(
    `${where()}: the logit of token ${token} is ${logits[token]}; expected finite numbers. The weights are damaged, ` +
      'or the config.json is of another model',
  )
}

/**
 * KL(reference || model) of one position, in nats.
 *
 * @param weights the reference's probabilities
 */
export function klDivergence(reference: Prediction, weights: Float64Array, model: Prediction): number {
  const expected = reference.logits
  const actual = model.logits
  let gap = 0
  for (let token = 0; token < weights.length; token++) {
    gap += weights[token] * (expected[token] - actual[token])
  }
  return gap + model.logSumExp - reference.logSumExp
}
