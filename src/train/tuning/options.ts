import { type OptionNames, refuseUnknown, requireNumber, requireWhole } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'

/** How codebooks are tuned. The defaults were chosen on text held out from the tuning text. */
export interface TuningOptions {
  /** Times that the training sequences are gone through at most, default 4. */
  epochs?: number
  /** How far a codebook value may move in the first steps, as a share of its codebook's root mean square; default 0.01. */
  learningRate?: number
  /** Sequences per step, default 8. */
  batch?: number
  /** Share of the sequences that is held out to choose the epoch, default 1/8; at least one sequence. */
  heldOut?: number
  /** Epochs in a row without gain on the held-out text after which tuning stops, default 2. */
  patience?: number
  /** Seed of the order of the sequences, default 0. */
  seed?: number
}

const optionNames: OptionNames<TuningOptions> = {
  epochs: true,
  learningRate: true,
  batch: true,
  heldOut: true,
  patience: true,
  seed: true,
}

/** @throws OptionError naming the option that cannot work */
export function resolveTuningOptions(options: TuningOptions): Required<TuningOptions> {
  refuseUnknown(options, optionNames)
  const { epochs = 4, learningRate = 0.01, batch = 8, heldOut = 1 / 8, patience = 2, seed = 0 } = options
  requireWhole('epochs', epochs, 1)
  requireWhole('batch', batch, 1)
  requireWhole('patience', patience, 1)
  requireWhole('seed', seed, 0)
  requireBetween('learningRate', learningRate, 0, 1)
  requireBetween('heldOut', heldOut, 0, 1)
  return { epochs, learningRate, batch, heldOut, patience, seed }
}

function requireBetween(option: string, value: number, least: number, most: number): void {
  requireNumber(option, value)
  if (value > least && value < most) return
  throw new OptionError(option, `expected a number between ${least} and ${most}, got ${value}`)
}
