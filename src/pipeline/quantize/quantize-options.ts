import {
  resolveScalarOptions,
  type ScalarGridOptions,
  type ScalarOptions,
  scalarGridOptionNames,
  scalarOptionsOf,
} from '../../baselines/scalar-options.js'
import { requireDamping, requireOneOf } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import { defaultVectorDim, optionsOf, resolveVqOptions, type VqOptions } from '../../gptvq/options.js'
import { defaultBpv } from '../../packing/layout.js'
import { type ModelTuningOptions, resolveModelTuning } from '../../train/tuning/tune-model.js'
import type { ActivationOptions } from '../activations/options.js'
import type { CalibrationOptions } from '../calibrate/calibration.js'
import { type EqualizationOptions, equalizesByText } from '../equalize/options.js'
import { DEFAULT_BUDGET, type MixedBitsOptions } from '../mixed/options.js'
import { type EndTensorOptions, endsByGptvq } from './end-tensors.js'
import { type LayerOrderOptions, resolveLayerOrder } from './layers/layer-order.js'

/** How the linear layers are quantized. */
export type QuantizationMethod = 'gptvq' | 'gptq' | 'rtn'

/** All values of {@link QuantizationMethod}. */
export const quantizationMethods: readonly QuantizationMethod[] = ['gptvq', 'gptq', 'rtn']

/** Options of GPTVQ and of calibration, as far as a method is concerned. */
type MethodOptions = VqOptions &
  Pick<ActivationOptions, 'activationRange'> &
  Pick<EqualizationOptions, 'equalization'> &
  Pick<EndTensorOptions, 'embeddingMethod' | 'headMethod'> &
  ScalarGridOptions &
  CalibrationOptions &
  LayerOrderOptions &
  ModelTuningOptions

/** The same for a whole model, where layers may differ in their bits. */
export type ModelMethodOptions = Omit<MethodOptions, 'bits'> & MixedBitsOptions

/** Options of a single layer that the scalar methods have no use for. */
const VECTOR_ONLY: readonly (keyof VqOptions)[] = [
  'vectorDim',
  'trellisBits',
  'indexWidths',
  'columnsPerGroup',
  'bpv',
  'codebookBits',
  'scaleBlockSize',
  'columnOrder',
  'kmeansIterations',
  'kmeansTolerance',
  'kmeansInit',
  'restarts',
  'vectorMetric',
  'codebookUpdateSteps',
  'refinementRounds',
  'refinementTolerance',
]

/** Options of codebooks, which the scalar methods do not have. */
const TUNING_ONLY: readonly (keyof ModelTuningOptions)[] = ['tuningEpochs', 'tuningSequences']

/** Options of scales, which codebooks do not have. */
const SCALAR_ONLY = Object.keys(scalarGridOptionNames) as (keyof ScalarGridOptions)[]

/** Options that are of no use where no activations are looked at. */
const TEXT_ONLY: readonly (keyof MethodOptions)[] = ['calibration', 'sequences', 'sequenceLength', 'seed']

/** Options that are of no use where layers are rounded without a look at activations. */
const ORDER_ONLY: readonly (keyof MethodOptions)[] = ['layerOrder', 'driftCorrection', 'tokenWeights']

/** A method with its checked options. */
export type MethodSettings =
  | {
      readonly method: 'gptvq'
      readonly options: VqOptions
      readonly tuning: Required<ModelTuningOptions>
      /** Bits per value of all layers together: then each gets bits of its own. */
      readonly budget?: number
      readonly order: Required<LayerOrderOptions>
      readonly stated: Readonly<Record<string, unknown>>
    }
  | {
      readonly method: 'gptq' | 'rtn'
      readonly options: ScalarOptions & { readonly damping: number }
      readonly order: Required<LayerOrderOptions>
      readonly stated: Readonly<Record<string, unknown>>
    }

/**
 * Bits of a model where only `bpv` is given: `'mixed'`, as far as all layers have a trellis, for which that is cheap, and
 * none has settings of its own.
 */
export function defaultBits(
  method: QuantizationMethod,
  options: ModelMethodOptions & { readonly set?: readonly unknown[] },
): MixedBitsOptions['bits'] {
  const { bits, bpv, groupSize, set = [] } = options
  if (method !== 'gptvq' || bits !== undefined || bpv === undefined) return bits
  if (groupSize !== undefined || set.length > 0) return bits
  const uniform = resolveUniform(method, { ...options, bits: undefined, bpv: undefined })
  return uniform.method === 'gptvq' && uniform.options.trellisBits ? 'mixed' : bits
}

/**
 * Checks all options of a method before any work is done.
 *
 * @throws OptionError also for an option that the method has no use for, rather than ignoring it
 */
export function resolveMethod(method: QuantizationMethod, options: ModelMethodOptions): MethodSettings {
  const { bits, ...others } = options
  if (bits !== 'mixed') return resolveUniform(method, { ...others, bits })
  if (options.groupSize !== undefined) {
    throw new OptionError(
      'groupSize',
      `bits 'mixed' chooses the group size of each layer, found groupSize ${options.groupSize}; leave it out and set bpv`,
    )
  }
  if (options.indexWidths === 'same') {
    throw new OptionError(
      'indexWidths',
      "'same' stores what bits say, and bits 'mixed' (the default where bpv is given) lie between; leave indexWidths " +
        'out, or set bits to a number, beside which bpv is a limit',
    )
  }
  const { bpv: budget = DEFAULT_BUDGET, ...shared } = others
  const { vectorDim = defaultVectorDim({ ...shared, bpv: budget }) } = shared
  const uniform = resolveUniform(method, method === 'gptvq' ? { ...shared, vectorDim } : shared)
  if (uniform.method !== 'gptvq') {
    throw new OptionError('bits', `'mixed' works with method 'gptvq' only, method is '${method}'`)
  }
  return { ...uniform, budget, stated: { ...uniform.stated, bits, bpv: budget } }
}

/** All layers with the same bits. */
function resolveUniform(method: QuantizationMethod, options: MethodOptions): MethodSettings {
  requireOneOf('method', method, quantizationMethods)
  if (method === 'gptvq') {
    refuseUseless(method, options, SCALAR_ONLY, "'gptq' or 'rtn'")
    if (options.equalization === 'auto') {
      throw new OptionError(
        'equalization',
        "'auto' weighs scalar grids, which method 'gptvq' has not; choose 'smoothquant', 'cross-layer', or another method",
      )
    }
    const tuning = resolveModelTuning(options)
    const resolved = resolveVqOptions(options)
    const given = optionsOf(resolved)
    const target = resolved.groupSize === undefined && { bpv: resolved.bpv ?? defaultBpv(resolved) }
    const order = resolveLayerOrder(options)
    const stated = { ...given, ...target, ...order, ...(tuning.tuningEpochs > 0 && tuning) }
    return { method, options: given, order, tuning, stated }
  }
  return resolveScalar(method, options)
}

function resolveScalar(method: 'gptq' | 'rtn', options: MethodOptions): MethodSettings {
  refuseUseless(method, options, [...VECTOR_ONLY, ...TUNING_ONLY], "'gptvq'")
  if (method === 'rtn') refuseUseless(method, options, ['damping'], "'gptq' or 'gptvq'")
  const { bits = 2, damping = 0.01 } = options
  const settings = resolveScalarOptions({ ...options, bits })
  const searched = settings.scaleSearch === 'sequential-mse'
  if (method === 'rtn' && !searched) {
    const { activationRange = 'token', equalization } = options
    const isRounded = activationRange === 'token' && !equalizesByText(equalization) && !endsByGptvq(options)
    const useless = isRounded ? [...TEXT_ONLY, ...ORDER_ONLY] : ORDER_ONLY
    refuseUseless(method, options, useless, "'gptq' or 'gptvq', or scaleSearch 'sequential-mse'")
  }
  requireDamping(damping)
  // the methods keep to what was published: GPTQ to its blocks, sequential MSE to its sequence
  const {
    layerOrder = searched ? 'sequential' : 'block',
    driftCorrection = 0,
    tokenWeights = 'equal',
  } = options
  const order = resolveLayerOrder({ layerOrder, driftCorrection, tokenWeights })
  const calibrated = method === 'gptq' || searched
  const scalar = scalarOptionsOf(settings)
  const stated = {
    ...scalar,
    ...(method === 'gptq' && { damping }),
    ...(calibrated && order),
  }
  return { method, options: { ...scalar, damping }, order, stated }
}

/** Whether a method looks at activations. */
export function isCalibrated(settings: MethodSettings): boolean {
  return settings.method !== 'rtn' || settings.options.scaleSearch === 'sequential-mse'
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
