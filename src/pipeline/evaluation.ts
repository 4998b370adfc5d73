import { OptionError, ShapeError, throwIfAborted, UnsupportedError } from '../errors.js'
import { disposeBlock, loadBlock, runBlock } from '../model/block.js'
import type { LlamaConfig } from '../model/config.js'
import { openEmbedding } from '../model/embedding.js'
import { type LlamaHead, openHead } from '../model/head.js'
import type { WeightSource } from '../model/weights.js'
import {
  emptySums,
  klDivergence,
  meanScores,
  type Prediction,
  prediction,
  type ScoreSums,
  type Scores,
} from './evaluation-scores.js'

export type { Scores } from './evaluation-scores.js'

/** A model to score. */
export interface ScoredModel {
  /** Its weights. */
  readonly source: WeightSource
  /** Its architecture. */
  readonly config: LlamaConfig
}

/** How far {@link scoreModels} has come. */
export interface ScoreProgress {
  /** Steps done: a window through a block or the head of a model. */
  readonly done: number
  /** Steps there are. */
  readonly total: number
}

/** What to score, and on what. */
export interface ScoreOptions {
  /** The model that the candidates are compared with, usually the one in full precision. */
  readonly reference?: ScoredModel
  /** The models to score. */
  readonly candidates: readonly ScoredModel[]
  /** Token ids, windows of one length of at least 2; each scores all its tokens but the first. */
  readonly windows: readonly Int32Array[]
  /** Receives how far the work has come. */
  readonly onProgress?: (progress: ScoreProgress) => void
  /** Stops the work with an AbortedError. */
  readonly signal?: AbortSignal
}

/** What {@link scoreModels} measured. */
export interface ModelScores {
  /** Where a reference was given. */
  readonly reference?: Scores
  /** In the order of the candidates. */
  readonly candidates: Scores[]
}

/** Tokens that go through a block together: enough for the engine's products to run at full speed. */
const batchTokens = 2048

/** Bytes of hidden states that are held at once, over all models. */
const hiddenBytes = 2 ** 30

/** Logits of one model that are held at once. */
const heldLogits = 2 ** 25

/**
 * Scores several models on the same windows in one pass. A model's blocks are loaded one at a time, so that memory
 * holds one block, the hidden states of as many windows as fit 1 GiB, and a bounded number of logits.
 *
 * @returns scores of the reference, where there is one, and of each candidate in the order given
 * @throws OptionError when a window is longer than a model's context
 * @throws UnsupportedError when the vocabularies of a candidate and the reference differ
 * @throws NumericError when a weight, an activation or a logit is NaN or infinite
 * @throws AbortedError when `signal` fires
 */
export async function scoreModels({
  reference,
  candidates,
  windows,
  onProgress,
  signal,
}: ScoreOptions): Promise<ModelScores> {
  const models = reference === undefined ? [...candidates] : [reference, ...candidates]
  const context = assertScorable(models, windows, reference)
  const sums = models.map(emptySums)
  const total = models.reduce((steps, { config }) => steps + (config.layers + 1) * windows.length, 0)
  let done = 0
  const advance = (steps: number) => {
    throwIfAborted(signal)
    done += steps
    onProgress?.({ done, total })
  }
  for (const chunk of chunksOfWindows(windows, models, context)) {
    throwIfAborted(signal)
    const hidden: Float32Array[] = []
    for (const model of models) hidden.push(await finalHidden(model, chunk, context, advance))
    await addScores(models, hidden, chunk, reference !== undefined, sums, advance)
  }
  const scores = sums.map((sum, i) => meanScores(sum, reference !== undefined && i > 0))
  return reference === undefined
    ? { candidates: scores }
    : { reference: scores[0], candidates: scores.slice(1) }
}

function assertScorable(
  models: readonly ScoredModel[],
  windows: readonly Int32Array[],
  reference: ScoredModel | undefined,
): number {
  const context = windows[0]?.length ?? 0
  if (context < 2 || windows.some((window) => window.length !== context)) {
    throw new ShapeError('expected one window or more, all of the same length of at least 2 tokens')
  }
  for (const { config } of models) {
    if (context > config.maxPositions) {
      throw new OptionError(
        'context',
        `found ${context}; the model's longest is ${config.maxPositions} tokens (max_position_embeddings)`,
      )
    }
    if (reference !== undefined && config.vocabSize !== reference.config.vocabSize) {
      throw new UnsupportedError(
        `the model has a vocabulary of ${config.vocabSize} tokens, the reference one of ${reference.config.vocabSize}; ` +
          'only models of one vocabulary can be compared',
      )
    }
  }
  return context
}

function chunksOfWindows(
  windows: readonly Int32Array[],
  models: readonly ScoredModel[],
  context: number,
): Int32Array[][] {
  const width = models.reduce((sum, { config }) => sum + config.hiddenSize, 0)
  return chunksOf(windows, Math.max(1, Math.floor(hiddenBytes / (4 * width * context))))
}

function chunksOf<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  )
}

/** The last block's output, (windows * context) x hiddenSize. */
async function finalHidden(
  { source, config }: ScoredModel,
  windows: readonly Int32Array[],
  context: number,
  advance: (steps: number) => void,
): Promise<Float32Array> {
  const embed = await openEmbedding(source, config)
  const width = context * config.hiddenSize
  const tokens = new Int32Array(windows.length * context)
  for (const [i, window] of windows.entries()) tokens.set(window, i * context)
  const hidden = await embed(tokens)
  const batch = Math.max(1, Math.floor(batchTokens / context))
  for (let index = 0; index < config.layers; index++) {
    const block = await loadBlock(source, config, index)
    try {
      for (let first = 0; first < windows.length; first += batch) {
        const count = Math.min(batch, windows.length - first)
        const part = hidden.subarray(first * width, (first + count) * width)
        part.set(await runBlock(block, part, count, context))
        advance(count)
      }
    } finally {
      disposeBlock(block)
    }
  }
  return hidden
}

async function addScores(
  models: readonly ScoredModel[],
  hidden: readonly Float32Array[],
  windows: readonly Int32Array[],
  compared: boolean,
  sums: readonly ScoreSums[],
  advance: (steps: number) => void,
): Promise<void> {
  const context = windows[0].length
  const positions = windows.length * context
  const heads: LlamaHead[] = []
  const largest = Math.max(...models.map(({ config }) => config.vocabSize))
  const step = Math.max(1, Math.min(batchTokens, Math.floor(heldLogits / largest)))
  const referenceWeights = compared ? new Float64Array(Math.min(step, positions) * largest) : undefined
  try {
    for (const { source, config } of models) heads.push(await openHead(source, config))
    for (let first = 0; first < positions; first += step) {
      const count = Math.min(step, positions - first)
      const part = { windows, context, first, count }
      let against: Comparison | undefined
      for (const [i, { config }] of models.entries()) {
        const { hiddenSize, vocabSize } = config
        const rows = hidden[i].subarray(first * hiddenSize, (first + count) * hiddenSize)
        const logits = await heads[i].logits(rows)
        const weights = i === 0 ? referenceWeights : undefined
        const predictions = predictionsOf(logits, vocabSize, part, weights)
        addNll(predictions, part, sums[i])
        if (weights !== undefined) against = { predictions, weights, vocabSize }
        else if (against !== undefined) addComparison(against, predictions, sums[i])
        const finished = (end: number) => Math.floor(end / context)
        advance(finished(first + count) - finished(first))
      }
    }
  } finally {
    for (const head of heads) head.dispose()
  }
}

/** Positions `first` to `first + count - 1` of windows laid end to end. */
interface Part {
  readonly windows: readonly Int32Array[]
  readonly context: number
  readonly first: number
  readonly count: number
}

/**
 * The predictions of a part; undefined at the last position of a window, which predicts nothing that is known.
 *
 * @param weights filled with their probabilities, positions x vocabSize, where given
 */
function predictionsOf(
  logits: Float32Array,
  vocabSize: number,
  { context, first, count }: Part,
  weights?: Float64Array,
): (Prediction | undefined)[] {
  return Array.from({ length: count }, (_, i) => {
    const position = (first + i) % context
    if (position === context - 1) return undefined
    const where = () => `window ${Math.floor((first + i) / context)}, position ${position}`
    const [start, end] = [i * vocabSize, (i + 1) * vocabSize]
    return prediction(logits.subarray(start, end), where, weights?.subarray(start, end))
  })
}

function addNll(predictions: readonly (Prediction | undefined)[], part: Part, sums: ScoreSums): void {
  const { windows, context, first } = part
  predictions.forEach((predicted, i) => {
    if (predicted === undefined) return
    const window = windows[Math.floor((first + i) / context)]
    const target = window[((first + i) % context) + 1]
    sums.nll += predicted.logSumExp - predicted.logits[target]
    sums.tokens++
  })
}

/** The reference's predictions of a part, and their probabilities: positions x vocabSize, or longer. */
interface Comparison {
  readonly predictions: readonly (Prediction | undefined)[]
  readonly weights: Float64Array
  readonly vocabSize: number
}

function addComparison(
  { predictions, weights, vocabSize }: Comparison,
  models: readonly (Prediction | undefined)[],
  sums: ScoreSums,
): void {
  predictions.forEach((reference, i) => {
    const model = models[i]
    if (reference === undefined || model === undefined) return
    sums.kl += klDivergence(reference, weights.subarray(i * vocabSize, (i + 1) * vocabSize), model)
    if (reference.top === model.top) sums.agreements++
  })
}
