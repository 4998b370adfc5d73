import { requireOneOf, requireShare } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'

/**
 * How sizes are moved between a layer's inputs and its weights before anything is rounded; the function of the model stays.
 * `smoothquant`: by the largest inputs on calibration text (Xiao et al. 2022, arXiv 2211.10438). `cross-layer`: between the
 * weights of two layers, without a text (Nagel et al. 2019, arXiv 1906.04721). `auto`: at each place as of several ways, none
 * among them, leaves the outputs of the layers there least off on calibration text; for scalar grids.
 */
export type Equalization = 'none' | 'smoothquant' | 'cross-layer' | 'auto'

/** All values of {@link Equalization}. */
export const equalizations: readonly Equalization[] = ['none', 'smoothquant', 'cross-layer', 'auto']

/** Whether inputs on a text are looked at. */
export function equalizesByText(equalization: Equalization | undefined): boolean {
  return equalization === 'smoothquant' || equalization === 'auto'
}

/** Whether and how a model is equalized. */
export interface EqualizationOptions {
  /** Default `'none'`. */
  equalization?: Equalization
  /** For `'smoothquant'`: share, 0 to 1, of the inputs' sizes that goes to the weights; default 0.5. */
  equalizationStrength?: number
}

/** Names of {@link EqualizationOptions}. */
export const equalizationOptionNames = {
  equalization: true,
  equalizationStrength: true,
} as const satisfies Record<keyof EqualizationOptions, true>

/** Checks the options and fills in the defaults. @throws OptionError */
export function resolveEqualization(options: EqualizationOptions): Required<EqualizationOptions> {
  const { equalization = 'none', equalizationStrength = 0.5 } = options
  requireOneOf('equalization', equalization, equalizations)
  requireShare('equalizationStrength', equalizationStrength)
  if (options.equalizationStrength !== undefined && equalization !== 'smoothquant') {
    throw new OptionError(
      'equalizationStrength',
      `is of no use to equalization '${equalization}'; leave it out or choose 'smoothquant'`,
    )
  }
  return { equalization, equalizationStrength }
}

/** The settings that matter, for reports. */
export function statedEqualization({
  equalization,
  equalizationStrength,
}: Required<EqualizationOptions>): Readonly<Record<string, string | number>> {
  if (equalization === 'none') return {}
  return { equalization, ...(equalization === 'smoothquant' && { equalizationStrength }) }
}
