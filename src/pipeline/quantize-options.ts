import type { ScalarOptions } from '../baselines/rtn.js'
import { requireDamping, requireOneOf, requireWhole } from '../check-option.js'
import { OptionError } from '../errors.js'
import { resolveVqOptions, type VqOptions } from '../gptvq/options.js'
import { defaultBpv } from '../packing/layout.js'
import type { CalibrationOptions } from './calibration.js'
import { type LayerOrderOptions, resolveLayerOrder } from './layer-order.js'

/** How the linear layers are quantized. */
export type QuantizationMethod = 'gptvq' | 'gptq' | 'rtn'

export const quantizationMethods: readonly QuantizationMethod[] = ['gptvq', 'gptq', 'rtn']

/** Options of GPTVQ and of calibration, as far as a method is concerned. */
type MethodOptions = VqOptions & CalibrationOptions & LayerOrderOptions

/** Options that the scalar methods have no use for. */
const VECTOR_ONLY: readonly (keyof MethodOptions)[] = [
  'vectorDim',
  'columnsPerGroup',
  'bpv',
  'codebookBits',
  'scaleBlockSize',
  'columnOrder',
  'kmeansIterations',
  'kmeansInit',
  'vectorMetric',
  'codebookUpdateSteps',
  'refinementRounds',
  'layerOrder',
  'driftCorrection',
]

/** Options that RTN, which looks at no activations, has no use for either. */
const CALIBRATED_ONLY: readonly (keyof MethodOptions)[] = [
  'damping',
  'calibration',
  'sequences',
  'sequenceLength',
  'seed',
]

/** The scalar methods are baselines: they keep to what was published. */
const PUBLISHED_ORDER = { layerOrder: 'block', driftCorrection: 0 } as const

/** A method with its checked options. */
export type MethodSettings =
  | {
      readonly method: 'gptvq'
      readonly options: VqOptions
      readonly order: Required<LayerOrderOptions>
      readonly stated: Readonly<Record<string, unknown>>
    }
  | {
      readonly method: 'gptq' | 'rtn'
      readonly options: Required<ScalarOptions> & { readonly damping: number }
      readonly order: Required<LayerOrderOptions>
      readonly stated: Readonly<Record<string, unknown>>
    }

/**
 * Checks all options of a method before any work is done.
 *
 * @throws OptionError also for an option that the method has no use for, rather than ignoring it
 */
export function resolveMethod(method: QuantizationMethod, options: MethodOptions): MethodSettings {
  requireOneOf('method', method, quantizationMethods)
  if (method === 'gptvq') {
    const resolved = resolveVqOptions(options)
    const { groupSize, bpv, ...settings } = resolved
    const target = groupSize === undefined ? { bpv: bpv ?? defaultBpv(resolved) } : { groupSize }
    const order = resolveLayerOrder(options)
    return { method, options: pickVqOptions(options), order, stated: { ...settings, ...target, ...order } }
  }
  refuseUseless(method, options, VECTOR_ONLY, "'gptvq'")
  if (method === 'rtn') refuseUseless(method, options, CALIBRATED_ONLY, "'gptq' or 'gptvq'")
  const { bits = 2, groupSize = 128, damping = 0.01 } = options
  requireWhole('bits', bits, 1, 8)
  requireWhole('groupSize', groupSize, 1)
  requireDamping(damping)
  const scalar = { bits, groupSize, damping }
  return {
    method,
    options: scalar,
    order: PUBLISHED_ORDER,
    stated: method === 'rtn' ? { bits, groupSize } : scalar,
  }
}

function refuseUseless(
  method: QuantizationMethod,
  options: MethodOptions,
  useless: readonly (keyof MethodOptions)[],
  others: string,
): void {
  for (const option of useless) {
    if (options[option] === undefined) continue
    throw new OptionError(
      option,
      `is of no use to method '${method}'; leave it out or choose method ${others}`,
    )
  }
}

function pickVqOptions(options: VqOptions): VqOptions {
  const { vectorDim, bits, groupSize, columnsPerGroup, bpv, codebookBits, kmeansIterations, kmeansInit } =
    options
  const { scaleBlockSize, columnOrder, damping, vectorMetric, codebookUpdateSteps, refinementRounds, seed } =
    options
  return {
    vectorDim,
    bits,
    groupSize,
    columnsPerGroup,
    bpv,
    codebookBits,
    scaleBlockSize,
    columnOrder,
    kmeansIterations,
    kmeansInit,
    damping,
    vectorMetric,
    codebookUpdateSteps,
    refinementRounds,
    seed,
  }
}
