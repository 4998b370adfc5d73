import { fetchOptionsOf, type ModelPlace, requireModel } from '../../checkpoint/model-source.js'
import { type OptionNames, refuseUnknown } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import { setThreads } from '../../kernels/kernels.js'
import { type ProductsName, startProducts } from '../../kernels/native/start-products.js'
import { type EngineName, startEngine } from '../../model/ops/engine.js'
import { readTokens, type TextSource } from '../calibrate/text-source.js'
import { type OpenModel, openModel } from '../folders/open-model.js'
import type { OnProgress } from '../progress.js'
import {
  type ContinuationOptions,
  type Continuations,
  compareContinuations,
  cutPrompts,
} from './continuations.js'
import { type Scores, scoreModels } from './evaluation.js'
import { cutWindows } from './windows.js'

/** What to score, and on what. */
export interface EvaluateModelOptions {
  /** A model, quantized or plain: its path, its name on the hub, or its files. */
  model: ModelPlace
  /** The model in full precision: asks for KL divergence and top-1 agreement too. */
  reference?: ModelPlace
  /** Held-out text: nothing that calibration has seen. */
  text: TextSource
  /** Tokens per window, default the model's context but 2048 at most. */
  context?: number
  /** Windows at most, from the start of the text on; default all. */
  windows?: number
  /**
   * Continuations to compare with the reference's, from prompts that are spread over the text; default 0. Both models are
   * then in memory as a whole, one after the other.
   */
  continuations?: number
  /** What runs the forward pass, default `'auto'`. */
  engine?: EngineName
  /**
   * What multiplies matrices: the kernels of this package, or the system's BLAS, which is faster and gives other last
   * bits; see {@link startProducts}. For the whole process from now on; default `'wasm'`.
   */
  products?: ProductsName
  /** Threads of the kernels, for the whole process from now on; default `GPTVQ_THREADS`, else the cores there are. */
  threads?: number
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work with an AbortedError. */
  signal?: AbortSignal
}

const optionNames: OptionNames<EvaluateModelOptions> = {
  model: true,
  reference: true,
  text: true,
  context: true,
  windows: true,
  continuations: true,
  engine: true,
  products: true,
  threads: true,
  onProgress: true,
  signal: true,
}

/** Scores of a model, and the text they belong to. */
export interface Evaluation extends Scores {
  /** Scores of the reference on the same windows. */
  readonly reference?: Scores
  /** Where continuations were asked for. */
  readonly continuations?: Continuations
  /** Tokens per window; all but the first are scored. */
  readonly context: number
  /** Windows scored. */
  readonly windows: number
}

/**
 * Scores a model on text: perplexity, and against a reference `KL(reference || model)` in nats per scored token and
 * top-1 agreement. The text is tokenized whole without special tokens and cut into windows of `context` tokens without
 * overlap; each scores all its tokens but the first. Where the model's description has a `firstToken`, each begins with that.
 *
 * @throws OptionError, TextError, CheckpointError, UnsupportedError, NumericError, each naming what is wrong; AbortedError
 */
export async function evaluateModel(options: EvaluateModelOptions): Promise<Evaluation> {
  refuseUnknown(options, optionNames)
  requireModel('model', options.model)
  if (options.reference !== undefined) requireModel('reference', options.reference)
  if (options.threads !== undefined) setThreads(options.threads)
  await startProducts(options.products)
  const model = await openModel(options.model, fetchOptionsOf(options))
  let reference: OpenModel | undefined
  try {
    if (options.reference !== undefined)
      reference = await openModel(options.reference, fetchOptionsOf(options))
    const context = options.context ?? Math.min(2048, model.config.maxPositions)
    const tokens = await readTokens(options.text, options.model, model.config, options.signal)
    const windows = cutWindows(tokens, context, options.windows, model.config.firstToken)
    const asked = continuationsOf(options, reference, tokens, model)
    const share = asked === undefined ? 1 : 0.5
    await startEngine(options.engine)
    const scores = await scoreModels({
      ...(reference && { reference }),
      candidates: [model],
      windows,
      onProgress: ({ done, total }) =>
        options.onProgress?.({ step: 'evaluating', done: (share * done) / total }),
      ...(options.signal && { signal: options.signal }),
    })
    const onContinued = (done: number) =>
      options.onProgress?.({ step: 'writing continuations', done: share + (1 - share) * done })
    const continuations = asked && (await compareContinuations({ ...asked, onProgress: onContinued }))
    return {
      ...scores.candidates[0],
      ...(scores.reference && { reference: scores.reference }),
      ...(continuations && { continuations }),
      context,
      windows: windows.length,
    }
  } finally {
    await model.close()
    await reference?.close()
  }
}

function continuationsOf(
  { continuations = 0, context, signal }: EvaluateModelOptions,
  reference: OpenModel | undefined,
  text: Int32Array,
  model: OpenModel,
): ContinuationOptions | undefined {
  if (continuations === 0) return undefined
  if (reference === undefined) {
    throw new OptionError('continuations', 'needs a reference to compare them with; give one')
  }
  const longest = Math.min(context ?? 2048, model.config.maxPositions, reference.config.maxPositions)
  return { reference, model, ...cutPrompts(text, continuations, longest, model.config.firstToken), signal }
}
