import type { ScalarGridOptions } from '../../baselines/scalar-options.js'
import { requireOneOf } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import type { ActivationOptions } from './options.js'

/** Bits of weights and activations, as chips name them; 16 bits of activations are those of the model. */
export type Scheme = 'w8a8' | 'w4a8' | 'w4a16'

/** All values of {@link Scheme}. */
export const schemes: readonly Scheme[] = ['w8a8', 'w4a8', 'w4a16']

/** Bits of weights and activations by one name. */
export interface SchemeOptions {
  /**
   * Stands for `bits` and `activationBits`, and unless they are given for `method` `'rtn'` with a symmetric grid for each
   * channel whose scale is found by `'mse'`.
   */
  scheme?: Scheme
}

interface Named extends SchemeOptions, ScalarGridOptions, ActivationOptions {
  bits?: number | 'mixed'
  groupSize?: number
  method?: 'gptvq' | 'gptq' | 'rtn'
}

const BITS = {
  w8a8: { bits: 8, activationBits: 8 },
  w4a8: { bits: 4, activationBits: 8 },
  w4a16: { bits: 4, activationBits: undefined },
} as const

/** The options with a scheme spelt out. @throws OptionError for an option that says something else than the scheme */
export function withScheme<T extends Named>({ scheme, ...options }: T): Omit<T, 'scheme'> {
  if (scheme === undefined) return options
  requireOneOf('scheme', scheme, schemes)
  const meant = BITS[scheme]
  for (const option of ['bits', 'activationBits'] as const) {
    const found = options[option]
    if (found === undefined || found === meant[option]) continue
    throw new OptionError(
      option,
      `scheme '${scheme}' says otherwise, found ${found}; leave one of the two out`,
    )
  }
  const { method = 'rtn' } = options
  const scalar = {
    ...(options.groupSize === undefined && { granularity: 'channel' as const }),
    grid: 'symmetric' as const,
    scaleSearch: 'mse' as const,
  }
  const { bits, activationBits } = meant
  const own = { method, bits, ...(activationBits !== undefined && { activationBits }) }
  return { ...(method === 'gptvq' ? {} : scalar), ...options, ...own }
}
