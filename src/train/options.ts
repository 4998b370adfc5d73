import {
  requireNumber,
  requireOneOf,
  requirePositive,
  requireShare,
  requireWhole,
} from '../common/check-option.js'
import type { EngineName } from '../model/ops/engine.js'
import type { CalibrationOptions } from '../pipeline/calibrate/calibration.js'
import type { OnProgress } from '../pipeline/progress.js'

/** On what and how long a model is trained: options that `trainModel` and `distillModel` share. */
export interface TrainingOptions {
  /** What is trained on, part of it held out: a text, or sequences of token ids of one length. Never the text of an evaluation. */
  text: NonNullable<CalibrationOptions['calibration']>
  /** Sequences at most, default 128. */
  sequences?: number
  /** Tokens per sequence at most, default 2048; never more than the model's context. */
  sequenceLength?: number
  /** Share of the sequences that is held out to choose the step that is kept, default 1/8; at least one sequence. */
  heldOut?: number
  /**
   * What KL(teacher || student) counts in the loss, 0 to 1; the cross entropy of the next token counts the rest. Default 1.
   */
  distillation?: number
  /**
   * What the distance of hidden states from the teacher's counts beside that, default 0: the squared distance after each
   * block relative to their size, a mean over tokens and blocks. Student and teacher need one hidden size.
   */
  hiddenWeight?: number
  /** Times that the training sequences are gone through at most, default 4. */
  epochs?: number
  /** Sequences that run at once, default 8. */
  batch?: number
  /** Batches whose gradients are added up to one step, default 1. */
  accumulation?: number
  /** The highest learning rate; its unit and its default depend on what is trained. */
  learningRate?: number
  /** Share of the steps in which the learning rate rises, default 0.05; afterwards it falls as half a cosine. */
  warmup?: number
  /** Share of a weight that a step takes off, at the learning rate 1 (AdamW); default 0. */
  weightDecay?: number
  /** Norm above which the gradients of a step are scaled down, all together; default 1. */
  clip?: number
  /** Steps between two measurements on held-out text, default one epoch. */
  measureEvery?: number
  /** Measurements in a row without gain after which training stops, default 3. */
  patience?: number
  /** Seed of the choice and the order of sequences, default 0. The same seed gives the same bytes. */
  seed?: number
  /**
   * A file that the state is written to after each measurement and from which a training that was stopped goes on: the
   * same call again. It is removed once the output is written. Default: none.
   */
  checkpoint?: string
  /** What runs the passes, default `'auto'`. */
  engine?: EngineName
  /** Threads of the kernels, for the whole process from now on; default `GPTVQ_THREADS`, else the cores there are. */
  threads?: number
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work with an AbortedError; nothing is written then but `checkpoint`. */
  signal?: AbortSignal
}

/** Names of all {@link TrainingOptions}. */
export const trainingOptionNames = {
  text: true,
  sequences: true,
  sequenceLength: true,
  heldOut: true,
  distillation: true,
  hiddenWeight: true,
  epochs: true,
  batch: true,
  accumulation: true,
  learningRate: true,
  warmup: true,
  weightDecay: true,
  clip: true,
  measureEvery: true,
  patience: true,
  seed: true,
  checkpoint: true,
  engine: true,
  threads: true,
  onProgress: true,
  signal: true,
} as const satisfies Record<keyof TrainingOptions, true>

/** Checked numbers of {@link TrainingOptions}. */
export type TrainingSettings = ReturnType<typeof resolveTraining>

/**
 * Fills in the defaults.
 *
 * @param learningRate the default of what is trained
 * @throws OptionError naming the option that cannot work
 */
export function resolveTraining(options: TrainingOptions, learningRateDefault: number) {
  const { epochs = 4, batch = 8, accumulation = 1, patience = 3, seed = 0, measureEvery } = options
  const { heldOut = 1 / 8, distillation = 1, hiddenWeight = 0, warmup = 0.05 } = options
  const { weightDecay = 0, clip = 1 } = options
  const { learningRate = learningRateDefault } = options
  for (const [option, value] of Object.entries({ epochs, batch, accumulation, patience })) {
    requireWhole(option, value, 1)
  }
  if (measureEvery !== undefined) requireWhole('measureEvery', measureEvery, 1)
  requireWhole('seed', seed, 0)
  requireShare('distillation', distillation)
  requireShare('warmup', warmup)
  requirePositive('clip', clip)
  const between = 'a number between 0 and 1'
  requireNumber('heldOut', heldOut, heldOut > 0 && heldOut < 1, between)
  requireNumber('learningRate', learningRate, learningRate > 0 && learningRate < 1, between)
  const decays = weightDecay >= 0 && weightDecay * learningRate < 1
  requireNumber('weightDecay', weightDecay, decays, 'a number from 0 on')
  const isWeight = hiddenWeight >= 0 && hiddenWeight <= 1e6
  requireNumber('hiddenWeight', hiddenWeight, isWeight, 'a number from 0 to 1e6')
  if (options.checkpoint !== undefined) requireOneOf('checkpoint', typeof options.checkpoint, ['string'])
  return {
    ...{ epochs, batch, accumulation, patience, seed, measureEvery, heldOut, distillation, warmup },
    ...{ hiddenWeight, weightDecay, clip, learningRate },
  }
}
