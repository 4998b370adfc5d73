import { requireShardBytes } from '../checkpoint/output/checkpoint-writer.js'
import {
  isWithin,
  type OptionNames,
  requireOneOf,
  requirePath,
  requireWhole,
} from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import { shownValue } from '../common/shown-value.js'
import type { OutputOptions } from '../pipeline/folders/output.js'
import { resolveTraining, type TrainingOptions, trainingOptionNames } from './options.js'

/** What of a quantized model is trained. */
export type TrainingMethod = 'qat' | 'lr-qat' | 'codebooks'

/** All values of {@link TrainingMethod}. */
export const trainingMethods: readonly TrainingMethod[] = ['qat', 'lr-qat', 'codebooks']

/** What to train, how, and where to. */
export interface TrainModelOptions extends TrainingOptions, OutputOptions {
  /** The full model: what is quantized, and the teacher unless another is given. */
  model: string
  /** The quantized folder to write. */
  output: string
  /**
   * `'qat'`: full-precision weights, rounded at each use, and the scales of their grid (scalar layers). `'lr-qat'`: a
   * product of two thin matrices inside the rounding, and the scales. `'codebooks'`: the codebooks of vectors; of those
   * with a trellis, whose codebook is a constant, the scales.
   */
  method: TrainingMethod
  /**
   * A quantized folder of `model` to start from, one that was trained too; of other weights it is refused. Default: `model` is quantized now, calibrated on the training sequences:
   * by GPTQ, for `'codebooks'` by GPTVQ.
   */
  start?: string
  /** Another model to learn from, of the same vocabulary; default `model`. */
  teacher?: string
  /** Without `start`: bits of a weight, 2 to 8, default 4; for `'codebooks'` default 2. */
  bits?: number
  /** Without `start`, not for `'codebooks'`: weights of a row that share a scale, default 128. */
  groupSize?: number
  /** Without `start`, not for `'codebooks'`: what makes the layers to start from, default `'gptq'`. */
  startMethod?: 'gptq' | 'rtn'
  /**
   * How far the outermost weight of a grid moves with its scale, relative to a weight that is trained by itself; default 1,
   * for `'lr-qat'` 2. Not for `'codebooks'`.
   */
  scaleRate?: number
  /**
   * Learning rate of the norms of the blocks, counted as that of scales; default 1, for `'codebooks'` 0.4. 0: they stay.
   */
  normRate?: number
  /** For `'lr-qat'`: columns of the left factor and rows of the right one, at most the smaller side of a layer; default 16. */
  rank?: number
  /** For `'lr-qat'`: bits of a frozen weight, 8 or 16; default 8 where all layers have up to 4 bits, else 16. */
  frozenBits?: 8 | 16
  /**
   * For `'codebooks'`: learning rate of the weights for which indices are chosen anew, as a share of that of codebooks;
   * default 0: indices stay.
   */
  indexRate?: number
  /** For `'codebooks'` with an `indexRate`: steps between two choices of all indices, default one epoch. */
  rechooseEvery?: number
}

/** Names of all {@link TrainModelOptions}. */
export const trainModelOptionNames: OptionNames<TrainModelOptions> = {
  ...trainingOptionNames,
  model: true,
  output: true,
  method: true,
  start: true,
  teacher: true,
  bits: true,
  groupSize: true,
  startMethod: true,
  scaleRate: true,
  normRate: true,
  rank: true,
  frozenBits: true,
  indexRate: true,
  rechooseEvery: true,
  force: 'switch',
  maxShardBytes: true,
}

/** Steps of the grid, or shares of a codebook's root mean square, that a value moves per step at most. */
const LEARNING_RATES: Readonly<Record<TrainingMethod, number>> = {
  qat: 0.01,
  'lr-qat': 0.003,
  codebooks: 0.01,
}

/** Learning rates of scales, relative to these. */
const SCALE_RATES: Readonly<Record<TrainingMethod, number>> = { qat: 1, 'lr-qat': 2, codebooks: 0 }

/** Learning rates of norms, relative to these. */
const NORM_RATES: Readonly<Record<TrainingMethod, number>> = { qat: 1, 'lr-qat': 1, codebooks: 0.4 }

/** Options that only some methods have a use for. */
const OWN_OPTIONS = {
  groupSize: ['qat', 'lr-qat'],
  startMethod: ['qat', 'lr-qat'],
  scaleRate: ['qat', 'lr-qat'],
  weightDecay: ['qat', 'lr-qat'],
  rank: ['lr-qat'],
  frozenBits: ['lr-qat'],
  indexRate: ['codebooks'],
  rechooseEvery: ['codebooks'],
} as const satisfies Partial<Record<keyof TrainModelOptions, readonly TrainingMethod[]>>

/** Checked numbers of {@link TrainModelOptions}. */
export type TrainModelSettings = ReturnType<typeof resolveTrainModel>

/**
 * Checks all options and fills in the defaults.
 *
 * @throws OptionError also for an option that the method has no use for
 */
export function resolveTrainModel(options: TrainModelOptions) {
  const { method } = options
  requirePath('model', options.model)
  requirePath('output', options.output)
  for (const option of ['start', 'teacher'] as const) {
    const path = options[option]
    if (path !== undefined) requirePath(option, path)
  }
  requireOneOf('method', method, trainingMethods)
  if (options.maxShardBytes !== undefined) requireShardBytes(options.maxShardBytes)
  refuseUseless(options)
  const isVector = method === 'codebooks'
  const { bits = isVector ? 2 : 4, groupSize = 128, startMethod = 'gptq', rank = 16 } = options
  const {
    scaleRate = SCALE_RATES[method],
    normRate = NORM_RATES[method],
    indexRate = 0,
    rechooseEvery,
  } = options
  const { frozenBits } = options
  requireWhole('bits', bits, 2, 8)
  requireWhole('groupSize', groupSize, 1)
  requireOneOf('startMethod', startMethod, ['gptq', 'rtn'])
  requireWhole('rank', rank, 1)
  if (frozenBits !== undefined) requireOneOf('frozenBits', frozenBits, [8, 16])
  for (const [option, value] of Object.entries({ scaleRate, normRate, indexRate })) {
    if (isWithin(value, 0, 100)) continue
    throw new OptionError(option, `expected a number from 0 to 100, got ${shownValue(value)}`)
  }
  if (rechooseEvery !== undefined) requireWhole('rechooseEvery', rechooseEvery, 1)
  if (rechooseEvery !== undefined && indexRate === 0) {
    throw new OptionError('rechooseEvery', 'indices are chosen anew only with an indexRate above 0; set both')
  }
  return {
    ...resolveTraining(options, LEARNING_RATES[method]),
    ...{ method, bits, groupSize, startMethod, scaleRate, normRate, rank, frozenBits, indexRate },
    rechooseEvery,
  }
}

/** The settings of a training whose start is there. */
export type SettledTraining = ReturnType<typeof settleTraining>

/**
 * Fills in what follows from the start, and leaves out what only says how to make one where one was given.
 *
 * @param layerBits of the layers that are trained
 */
export function settleTraining(
  { bits, groupSize, startMethod, ...others }: TrainModelSettings,
  start: string | undefined,
  layerBits: readonly number[],
) {
  const { frozenBits = layerBits.every((own) => own <= 4) ? 8 : 16 } = others
  const making = start === undefined ? { bits, groupSize, startMethod } : {}
  return { ...others, ...making, frozenBits }
}

function refuseUseless(options: TrainModelOptions): void {
  const { method, start } = options
  for (const [option, methods] of Object.entries(OWN_OPTIONS)) {
    const isOwn = (methods as readonly TrainingMethod[]).includes(method)
    if (isOwn || options[option as keyof typeof OWN_OPTIONS] === undefined) continue
    throw new OptionError(option, `is of no use to method '${method}', only to '${methods.join("' and '")}'`)
  }
  if (start === undefined) return
  for (const option of ['bits', 'groupSize', 'startMethod'] as const) {
    if (options[option] === undefined) continue
    throw new OptionError(option, `is what ${start} was quantized with; leave it out, or start`)
  }
}
