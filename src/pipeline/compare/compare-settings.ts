import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type OptionNames,
  refuseUnknown,
  requireList,
  requireObject,
  requirePath,
} from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import type { CalibrationOptions } from '../calibrate/calibration.js'
import type { TextSource } from '../calibrate/text-source.js'
import { evaluateModel } from '../evaluate/evaluate-model.js'
import type { Scores } from '../evaluate/evaluation.js'
import { type OnProgress, partOf } from '../progress.js'
import { type QuantizeModelOptions, quantizeModel } from '../quantize/quantize-model.js'

/** Settings of one try: what it has apart from the others. */
export interface Trial {
  /** How the result calls it. */
  readonly name: string
  /** Options of `quantizeModel`, but for paths and what all tries share. */
  readonly options: Omit<QuantizeModelOptions, 'model' | 'output' | 'onProgress' | 'signal' | 'onLayer'>
}

/** What to try, and on what to judge it. */
export interface CompareSettingsOptions {
  /** A model folder in full precision. */
  model: string
  /** At least one. */
  trials: readonly Trial[]
  /** Held-out text that judges: nothing that calibration has seen. */
  text: TextSource
  /** The calibration text of all; default: the model writes its own. */
  calibration?: CalibrationOptions['calibration']
  /** Tokens per window, default the model's context but 2048 at most. */
  context?: number
  /** Windows at most, from the start of the text on; default all. */
  windows?: number
  /** What runs the forward pass, default `'auto'`. */
  engine?: QuantizeModelOptions['engine']
  /** What multiplies matrices, default `'wasm'`. */
  products?: QuantizeModelOptions['products']
  /** Threads, default `GPTVQ_THREADS`, else the cores there are. */
  threads?: number
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work with an AbortedError. */
  signal?: AbortSignal
}

/** What a try came to. */
export interface TrialResult {
  /** The settings, as they were given. */
  readonly name: string
  /** Of the layers, all stored bytes counted. */
  readonly bitsPerValue: number
  /** The same of all tensors, those that stay as they are too. */
  readonly wholeModelBits: number
  /** Of the written folder. */
  readonly bytes: number
  /** Mean of the layers' relative errors on the calibration text; null for a method without one. */
  readonly meanError: number | null
  /** Time of quantizing. */
  readonly seconds: number
  /** Perplexity, KL divergence and top-1 agreement on the held-out text. */
  readonly scores: Scores
}

/** All tries, and what they are held against. */
export interface Comparison {
  /** In the order of the tries. */
  readonly trials: readonly TrialResult[]
  /** The model in full precision on the same text. */
  readonly reference: Scores
}

const optionNames: OptionNames<CompareSettingsOptions> = {
  model: true,
  trials: true,
  text: true,
  calibration: true,
  context: true,
  windows: true,
  engine: true,
  products: true,
  threads: true,
  onProgress: true,
  signal: true,
}

/** Share of a try's work that quantizing takes; for progress only. */
const QUANTIZING_SHARE = 0.8

/**
 * Quantizes a model once for each setting, one after the other, and scores each result on a held-out text. Nothing is
 * kept but the figures: each try is written to a temporary folder and removed.
 *
 * @throws OptionError without a try, or for one that cannot be; what `quantizeModel` and `evaluateModel` throw
 */
export async function compareSettings(options: CompareSettingsOptions): Promise<Comparison> {
  refuseUnknown(options, optionNames)
  requirePath('model', options.model)
  const { trials } = options
  if (!Array.isArray(trials) || trials.length === 0) {
    throw new OptionError('trials', 'expected a list of at least one { name, options }')
  }
  for (const trial of trials) requireObject('trials', trial)
  const folder = await mkdtemp(join(tmpdir(), 'gptvq-compare-'))
  try {
    const results: TrialResult[] = []
    let reference: Scores | undefined
    for (const [i, trial] of trials.entries()) {
      const share = (at: number) => (i + at) / trials.length
      const { scores, ...result } = await tryOut(trial, join(folder, String(i)), options, share)
      results.push({ ...result, scores: scores.candidate })
      reference ??= scores.reference
    }
    return { trials: results, reference: reference! }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function tryOut(
  { name, options: own }: Trial,
  output: string,
  options: CompareSettingsOptions,
  share: (at: number) => number,
) {
  const { model, text, calibration, context, windows, onProgress } = options
  const part = (from: number, to: number): OnProgress => {
    const report = partOf(onProgress, share(from), share(to))
    return ({ step, done }) => report(`${name}: ${step}`, done)
  }
  const { engine, products, threads, signal } = options
  const shared = {
    ...(engine && { engine }),
    ...(products && { products }),
    ...(threads && { threads }),
    ...(signal && { signal }),
  }
  const report = await quantizeModel({
    // rounding to nearest takes no text, beside tries that do
    ...(calibration !== undefined && own.method !== 'rtn' && { calibration }),
    ...own,
    ...shared,
    model,
    output,
    unfinished: 'discard',
    onProgress: part(0, QUANTIZING_SHARE),
  })
  const evaluation = await evaluateModel({
    ...(context !== undefined && { context }),
    ...(windows !== undefined && { windows }),
    ...shared,
    model: output,
    reference: model,
    text,
    onProgress: part(QUANTIZING_SHARE, 1),
  })
  await rm(output, { recursive: true, force: true })
  const errors = report.layers.flatMap(({ relativeError }) => relativeError ?? [])
  const { reference, context: _, windows: __, ...candidate } = evaluation
  return {
    name,
    bitsPerValue: report.bitsPerValue,
    wholeModelBits: report.wholeModel.bitsPerValue,
    bytes: report.outputBytes ?? 0,
    meanError: errors.length === 0 ? null : errors.reduce((sum, error) => sum + error, 0) / errors.length,
    seconds: report.seconds.total,
    scores: { candidate, reference: reference! },
  }
}

/** The try that diverges least among those of at most `budget` bits per value; undefined when all have more. */
export function bestWithin(trials: readonly TrialResult[], budget: number): TrialResult | undefined {
  requireList('trials', trials)
  return trials
    .filter(({ bitsPerValue }) => bitsPerValue <= budget)
    .reduce<TrialResult | undefined>(
      (best, trial) =>
        best === undefined || trial.scores.klDivergence! < best.scores.klDivergence! ? trial : best,
      undefined,
    )
}
