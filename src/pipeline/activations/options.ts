import type { RangeSearch } from '../../activations/find-range.js'
import { rangeSearches } from '../../activations/find-range.js'
import type { ScalarGrid } from '../../baselines/scalar-options.js'
import { scalarGrids } from '../../baselines/scalar-options.js'
import type { StoredActivations } from '../../checkpoint/quantized/stored-activations.js'
import { requireNumber, requireOneOf, requireWhole } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'

/**
 * Where the range of an activation's grid comes from: `token`: each token's own values (dynamic, of the cache each head's);
 * else one range for all tokens of a layer (static), found on calibration text, see {@link RangeSearch}.
 */
export type ActivationRange = 'token' | RangeSearch

/** All values of {@link ActivationRange}. */
export const activationRanges: readonly ActivationRange[] = ['token', ...rangeSearches]

/** Whether activations are rounded too, where the model is run. */
export interface ActivationOptions {
  /** Bits of the inputs of quantized layers, 4 to 16. Default: they stay as they are. */
  activationBits?: number
  /** Bits of the keys and values that attention reads, 4 to 16. Default: they stay as they are. */
  cacheBits?: number
  /** Default `'token'`. */
  activationRange?: ActivationRange
  /** Default `'asymmetric'`. */
  activationGrid?: ScalarGrid
  /** For `activationRange: 'percentile'`: percent of the values below either end, 50 to 100. Default 99.9. */
  activationPercentile?: number
}

/** Names of {@link ActivationOptions}. */
export const activationOptionNames = {
  activationBits: true,
  cacheBits: true,
  activationRange: true,
  activationGrid: true,
  activationPercentile: true,
} as const satisfies Record<keyof ActivationOptions, true>

/** Options whose defaults are filled in. */
export interface ActivationSettings {
  readonly activationBits: number | undefined
  readonly cacheBits: number | undefined
  readonly activationRange: ActivationRange
  readonly activationGrid: ScalarGrid
  readonly activationPercentile: number
}

const PERCENTILE = 99.9

/** Checks the options and fills in the defaults; undefined where nothing is rounded. @throws OptionError */
export function resolveActivations(options: ActivationOptions): ActivationSettings | undefined {
  const { activationBits, cacheBits, activationRange = 'token', activationGrid = 'asymmetric' } = options
  if (activationBits !== undefined) requireWhole('activationBits', activationBits, 4, 16)
  if (cacheBits !== undefined) requireWhole('cacheBits', cacheBits, 4, 16)
  requireOneOf('activationRange', activationRange, activationRanges)
  requireOneOf('activationGrid', activationGrid, scalarGrids)
  const { activationPercentile = PERCENTILE } = options
  const isPercentile = activationPercentile >= 50 && activationPercentile <= 100
  requireNumber('activationPercentile', activationPercentile, isPercentile, 'a number from 50 to 100')
  if (options.activationPercentile !== undefined && activationRange !== 'percentile') {
    throw new OptionError(
      'activationPercentile',
      `is of no use to activationRange '${activationRange}'; leave it out or choose 'percentile'`,
    )
  }
  if (activationBits !== undefined || cacheBits !== undefined) {
    return { activationBits, cacheBits, activationRange, activationGrid, activationPercentile }
  }
  for (const option of ['activationRange', 'activationGrid', 'activationPercentile'] as const) {
    if (options[option] === undefined) continue
    throw new OptionError(
      option,
      'is of no use where activations stay as they are; set activationBits or cacheBits',
    )
  }
  return undefined
}

/** Whether ranges are to be found on calibration text. */
export function isStatic(settings: ActivationSettings | undefined): boolean {
  return settings !== undefined && settings.activationRange !== 'token'
}

/** The settings that matter, for reports. */
export function statedActivations(
  settings: ActivationSettings | undefined,
): Readonly<Record<string, string | number>> {
  if (settings === undefined) return {}
  const { activationBits, cacheBits, activationRange, activationGrid, activationPercentile } = settings
  return {
    ...(activationBits !== undefined && { activationBits }),
    ...(cacheBits !== undefined && { cacheBits }),
    activationRange,
    activationGrid,
    ...(activationRange === 'percentile' && { activationPercentile }),
  }
}

/** What a folder says of the rounding of activations. */
export function storedActivations(
  { activationBits, cacheBits, activationGrid }: ActivationSettings,
  ranges: StoredActivations['ranges'],
): StoredActivations {
  const symmetric = activationGrid === 'symmetric'
  return {
    ...(activationBits !== undefined && { inputs: { bits: activationBits, symmetric } }),
    ...(cacheBits !== undefined && { cache: { bits: cacheBits, symmetric } }),
    ...(ranges && { ranges }),
  }
}
