import { type OptionNames, refuseUnknown, requirePath } from '../../check-option.js'
import { setThreads } from '../../kernels/kernels.js'
import { type EngineName, startEngine } from '../../model/ops/engine.js'
import { readTokens, type TextSource } from '../calibrate/text-source.js'
import { type OpenModel, openModel } from '../folders/open-model.js'
import type { OnProgress } from '../progress.js'
import { type Scores, scoreModels } from './evaluation.js'
import { cutWindows } from './windows.js'

/** What to score, and on what. */
export interface EvaluateModelOptions {
  /** A model folder, quantized or plain. */
  model: string
  /** The model in full precision: asks for KL divergence and top-1 agreement too. */
  reference?: string
  /** Held-out text: nothing that calibration has seen. */
  text: TextSource
  /** Tokens per window, default the model's context but 2048 at most. */
  context?: number
  /** Windows at most, from the start of the text on; default all. */
  windows?: number
  /** What runs the forward pass, default `'auto'`. */
  engine?: EngineName
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
  engine: true,
  threads: true,
  onProgress: true,
  signal: true,
}

/** Scores of a model, and the text they belong to. */
export interface Evaluation extends Scores {
  /** Scores of the reference on the same windows. */
  readonly reference?: Scores
  /** Tokens per window; all but the first are scored. */
  readonly context: number
  /** Windows scored. */
  readonly windows: number
}

/**
 * Scores a model on text: perplexity, and against a reference `KL(reference || model)` in nats per scored token and
 * top-1 agreement. The text is tokenized whole without special tokens and cut into windows of `context` tokens without
 * overlap; each scores all its tokens but the first.
 *
 * @throws OptionError, TextError, CheckpointError, UnsupportedError, NumericError, each naming what is wrong; AbortedError
 */
export async function evaluateModel(options: EvaluateModelOptions): Promise<Evaluation> {
  refuseUnknown(options, optionNames)
  requirePath('model', options.model)
  if (options.reference !== undefined) requirePath('reference', options.reference)
  if (options.threads !== undefined) setThreads(options.threads)
  const model = await openModel(options.model)
  let reference: OpenModel | undefined
  try {
    if (options.reference !== undefined) reference = await openModel(options.reference)
    const context = options.context ?? Math.min(2048, model.config.maxPositions)
    const tokens = await readTokens(options.text, options.model, model.config)
    const windows = cutWindows(tokens, context, options.windows)
    await startEngine(options.engine)
    const scores = await scoreModels({
      ...(reference && { reference }),
      candidates: [model],
      windows,
      onProgress: ({ done, total }) => options.onProgress?.({ step: 'evaluating', done: done / total }),
      ...(options.signal && { signal: options.signal }),
    })
    return {
      ...scores.candidates[0],
      ...(scores.reference && { reference: scores.reference }),
      context,
      windows: windows.length,
    }
  } finally {
    await model.close()
    await reference?.close()
  }
}
