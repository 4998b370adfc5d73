import {
  resolveScalarOptions,
  type ScalarGridOptions,
  type ScalarOptions,
  scalarGridOptionNames,
  scalarOptionsOf,
} from '../../baselines/scalar-options.js'
import type { ModelPlace } from '../../checkpoint/model-source.js'
import type { OptionNames } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import type { EngineName } from '../../model/ops/engine.js'
import {
  type ActivationOptions,
  type ActivationSettings,
  activationOptionNames,
  resolveActivations,
} from '../activations/options.js'
import { type SchemeOptions, withScheme } from '../activations/scheme.js'
import type { TextSource } from '../calibrate/text-source.js'
import type { OnProgress } from '../progress.js'

/** What to analyze, and how layers are rounded for trial: as `quantizeModel` by method `'rtn'`. */
export interface AnalyzeModelOptions
  extends ScalarGridOptions,
    Omit<ActivationOptions, 'cacheBits'>,
    SchemeOptions {
  /** A model in full precision. */
  model: ModelPlace
  /** A text that the model is run on. */
  text: TextSource
  /** Bits of weights, 1 to 8, default 4. */
  bits?: number
  /** Weights of a row that share a scale, default 128. */
  groupSize?: number
  /** Tokens per window, default the model's context but 256 at most. */
  context?: number
  /** Windows at most, from the start of the text on; default 4. */
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

const { cacheBits: _, ...activationNames } = activationOptionNames

export const analyzeOptionNames: OptionNames<AnalyzeModelOptions> = {
  ...scalarGridOptionNames,
  ...activationNames,
  scheme: true,
  model: true,
  text: true,
  bits: true,
  groupSize: true,
  context: true,
  windows: true,
  engine: true,
  threads: true,
  onProgress: true,
  signal: true,
}

const WEIGHT_BITS = 4
const ACTIVATION_BITS = 8

/** How layers are rounded for trial. */
export interface TrialSettings {
  readonly weights: ScalarOptions
  readonly activations: ActivationSettings & { readonly activationBits: number }
}

/** Checks the options and fills in the defaults. @throws OptionError */
export function resolveTrial(given: AnalyzeModelOptions): TrialSettings {
  const options = withScheme(given)
  const { bits = WEIGHT_BITS, activationBits = ACTIVATION_BITS } = options
  if (options.scaleSearch === 'sequential-mse') {
    throw new OptionError('scaleSearch', "an analysis rounds layers one by one; expected 'minmax' or 'mse'")
  }
  return {
    weights: scalarOptionsOf(resolveScalarOptions({ ...options, bits })),
    activations: { ...resolveActivations({ ...options, activationBits })!, activationBits },
  }
}
