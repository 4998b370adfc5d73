import { NumericError } from '../../common/errors.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'

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

/**
 * Means of the sums; the comparison with a reference only where `compared`.
 *
 * @throws NumericError when the perplexity is beyond float64, or a mean is NaN or infinite
 */
export function meanScores({ tokens, nll, kl, agreements }: ScoreSums, compared: boolean): Scores {
  const plain = { perplexity: Math.exp(nll / tokens), nll: nll / tokens, tokens }
  if (!Number.isFinite(plain.perplexity) || !Number.isFinite(kl)) {
    throw new NumericError(
      `the model's predictions are too far off to be scored: ${plain.nll} nats per token make a perplexity of ` +
        `${plain.perplexity}. The weights are damaged, or the config.json is of another model`,
    )
  }
  if (!compared) return plain
  return { ...plain, klDivergence: kl / tokens, top1Agreement: agreements / tokens }
}

/** Positions `first` to `first + count - 1` of windows laid end to end. */
export interface Part {
  readonly windows: readonly Int32Array[]
  readonly context: number
  readonly first: number
  readonly count: number
}

/** A model's predictions of a part. Those at the last position of a window count for nothing: what follows is not known. */
export interface Predictions {
  /** count x vocabSize, in the kernels' memory. */
  readonly logits: Float32Array
  readonly vocabSize: number
  /** `log(sum(exp(logits)))` of each position, in float64. */
  readonly logSums: Float64Array
  /** The token with the highest logit at each position; the first of several. */
  readonly tops: Int32Array
}

/**
 * @param logits one per position of the part and token of the vocabulary, in the kernels' memory
 * @throws NumericError when a logit of a position that counts is NaN or infinite
 */
export function predictionsOf(logits: Float32Array, vocabSize: number, part: Part): Predictions {
  const { sums, tops } = forwardKernels().predict(part.count, vocabSize, logits)
  const logSums = sums.map((sum, i) => Math.log(sum) + logits[i * vocabSize + tops[i]])
  forEachScored(part, (i, window, position) => {
    if (tops[i] >= 0) return
    const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize)
    const token = row.findIndex((logit) => !Number.isFinite(logit))
    throw new NumericError(
      `window ${window}, position ${position}: the logit of token ${token} is ${row[token]}; expected finite numbers. ` +
        'The weights are damaged, or the config.json is of another model',
    )
  })
  return { logits, vocabSize, logSums, tops }
}

/** Calls `use` with each position that predicts a token of its window. */
function forEachScored(
  { context, first, count }: Part,
  use: (i: number, window: number, position: number) => void,
): void {
  for (let i = 0; i < count; i++) {
    const position = (first + i) % context
    if (position < context - 1) use(i, Math.floor((first + i) / context), position)
  }
}

/** Adds how well the tokens that follow were predicted. */
export function addNll({ logits, vocabSize, logSums }: Predictions, part: Part, sums: ScoreSums): void {
  forEachScored(part, (i, window, position) => {
    sums.nll += logSums[i] - logits[i * vocabSize + part.windows[window][position + 1]]
    sums.tokens++
  })
}

/** Adds how far a model's predictions are from those of the reference. */
export function addComparison(reference: Predictions, model: Predictions, part: Part, sums: ScoreSums): void {
  const { vocabSize, logSums } = reference
  const gaps = forwardKernels().compare(part.count, vocabSize, reference.logits, model.logits, logSums)
  forEachScored(part, (i) => {
    sums.kl += gaps[i] + model.logSums[i] - logSums[i]
    if (reference.tops[i] === model.tops[i]) sums.agreements++
  })
}
