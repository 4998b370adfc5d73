import { type OptionNames, refuseUnknown, requireList } from '../../common/check-option.js'
import { OptionError, ShapeError, throwIfAborted, UnsupportedError } from '../../common/errors.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'
import { disposeBlock, openBlock } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { openEmbedding } from '../../model/decoder/embedding.js'
import { type Head, openHead } from '../../model/decoder/head.js'
import { runBlock } from '../../model/decoder/run-block.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import {
  addComparison,
  addNll,
  emptySums,
  meanScores,
  type Predictions,
  predictionsOf,
  type ScoreSums,
  type Scores,
} from './evaluation-scores.js'

export type { Scores } from './evaluation-scores.js'

/** A model to score. */
export interface ScoredModel {
  /** Its weights. */
  readonly source: WeightSource
  /** Its architecture. */
  readonly config: DecoderDescription
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

const optionNames: OptionNames<ScoreOptions> = {
  reference: true,
  candidates: true,
  windows: true,
  onProgress: true,
  signal: true,
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
export async function scoreModels(options: ScoreOptions): Promise<ModelScores> {
  refuseUnknown(options, optionNames)
  const { reference, candidates, windows, onProgress, signal } = options
  requireList('candidates', candidates)
  const models = reference === undefined ? [...candidates] : [reference, ...candidates]
  const context = assertScorable(models, windows, reference)
  const sums = models.map(emptySums)
  const total = models.reduce((steps, { config }) => steps + (config.blocks.length + 1) * windows.length, 0)
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
  for (const description of config.blocks) {
    const block = await openBlock(source, description)
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
  const largest = Math.max(...models.map(({ config }) => config.vocabSize))
  const step = Math.max(1, Math.min(positions, batchTokens, Math.floor(heldLogits / largest)))
  const { allocate, release } = forwardKernels()
  const held: Float32Array[] = []
  const heads: Head[] = []
  try {
    // the reference's logits, and beside them those of one candidate after the other
    for (let i = 0; i < (compared ? 2 : 1); i++) held.push(allocate(step * largest))
    for (const { source, config } of models) heads.push(await openHead(source, config))
    for (let first = 0; first < positions; first += step) {
      const count = Math.min(step, positions - first)
      const part = { windows, context, first, count }
      let reference: Predictions | undefined
      for (const [i, { config }] of models.entries()) {
        const { hiddenSize, vocabSize } = config
        const rows = hidden[i].subarray(first * hiddenSize, (first + count) * hiddenSize)
        const target = held[reference ? 1 : 0].subarray(0, count * vocabSize)
        const predictions = predictionsOf(await heads[i].logits(rows, target), vocabSize, part)
        addNll(predictions, part, sums[i])
        if (reference) addComparison(reference, predictions, part, sums[i])
        else if (compared) reference = predictions
        const finished = (end: number) => Math.floor(end / context)
        advance(finished(first + count) - finished(first))
      }
    }
  } finally {
    for (const head of heads) head.dispose()
    for (const logits of held) release(logits)
  }
}
