import type { Random } from '../common/random.js'
import { forwardKernels } from '../kernels/forward-kernels.js'
import { drawTokens } from '../model/passes/draw-token.js'
import { type Candidates, candidatesOf, type Filters, keepsAll, likeliest } from './candidates.js'

/** How the next token is chosen; see `GenerateOptions`. */
export interface Sampling extends Omit<Filters, 'temperature'> {
  /** 0: the likeliest token. */
  readonly temperature: number
  /** Above 0; 1: none. */
  readonly repetitionPenalty: number
  /** How many of the likeliest tokens are told. */
  readonly topLogprobs: number
}

/** A token and its log-probability under the model. */
export interface ScoredToken {
  readonly token: number
  /** Natural logarithm of the model's own probability: before temperature, penalty and filters. */
  readonly logprob: number
}

/** A chosen token, and the likeliest ones. */
export interface Choice extends ScoredToken {
  readonly top: readonly ScoredToken[]
}

/**
 * Chooses the token that follows.
 *
 * @param logits of the whole vocabulary, finite, in the kernels' memory; overwritten
 * @param seen tokens that the penalty is on
 */
export function chooseToken(
  logits: Float32Array,
  sampling: Sampling,
  seen: ReadonlySet<number>,
  random: Random,
): Choice {
  const { temperature, repetitionPenalty, topLogprobs } = sampling
  const { sums, tops } = forwardKernels().predict(1, logits.length, logits)
  const logSum = Math.log(sums[0]) + logits[tops[0]]
  const scored = (token: number): ScoredToken => ({ token, logprob: logits[token] - logSum })
  const top = topLogprobs > 0 ? likeliest(logits, topLogprobs).map(scored) : []
  if (repetitionPenalty === 1) {
    if (temperature === 0) return { ...scored(tops[0]), top }
    // drawing overwrites logits
    const before = keepsAll(sampling, logits.length) ? logits.slice() : logits
    const token = drawOne(logits, sampling, random)
    return { token, logprob: before[token] - logSum, top }
  }
  const before = logits.slice()
  penalize(logits, seen, repetitionPenalty)
  const token =
    temperature === 0
      ? forwardKernels().predict(1, logits.length, logits).tops[0]
      : drawOne(logits, sampling, random)
  return { token, logprob: before[token] - logSum, top }
}

/** Logits of tokens that were there are divided by the penalty where they are above 0, and multiplied by it elsewhere. */
function penalize(logits: Float32Array, seen: ReadonlySet<number>, penalty: number): void {
  for (const token of seen) {
    const logit = logits[token]
    logits[token] = logit > 0 ? logit / penalty : logit * penalty
  }
}

function drawOne(logits: Float32Array, sampling: Sampling, random: Random): number {
  if (keepsAll(sampling, logits.length)) {
    return drawTokens(logits, logits.length, sampling.temperature, [random])[0]
  }
  return drawFrom(candidatesOf(logits, sampling), random)
}

function drawFrom({ tokens, weights }: Candidates, random: Random): number {
  let rest = random() * weights.reduce((sum, weight) => sum + weight, 0)
  let at = 0
  while (at < tokens.length - 1 && rest >= weights[at]) rest -= weights[at++]
  return tokens[at]
}
