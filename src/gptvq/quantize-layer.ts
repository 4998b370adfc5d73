import { type OptionNames, refuseUnknown, requireWhole } from '../common/check-option.js'
import type { Matrix } from '../common/matrix.js'
import { requireFit } from '../hessian/inverse-factor.js'
import { ordinaryExponent } from '../hessian/unit-scale.js'
import type { VqLayer } from '../packing/vq-layer.js'
import { frameOf, type LayerFrame, readyRows } from './layer-frame.js'
import { resolveVqOptions, type VqOptions, type VqSettings, vqOptionNames } from './options.js'
import { type LayerTask, quantizeRows } from './quantize-rows.js'

export type { LayerTask } from './quantize-rows.js'

const optionNames: OptionNames<VqOptions & LayerTask> = {
  ...vqOptionNames,
  name: true,
  onProgress: true,
  signal: true,
  tokens: true,
  onPhase: true,
  factors: true,
}

/**
 * Quantizes one linear layer with GPTVQ (van Baalen et al. 2024, algorithm 1).
 *
 * @param weight out x in
 * @param hessian in x in, `(2 / tokens) X^T X` of the layer's inputs, undamped (see HessianAccumulator)
 * @returns the layer in its stored values; `dequantizeLayer` gives its weights, `packLayer` its bytes
 * @throws OptionError, ShapeError, or NumericError naming the layer (NaN or infinity, a Hessian that is not positive
 *   definite with the damping given), AbortedError
 * @example
 * ```ts
 * const inputs = new HessianAccumulator(weight.cols)
 * for (const batch of activations) inputs.add(batch) // tokens x in each
 * const hessian = inputs.hessian()
 * const layer = await quantizeLayer(weight, hessian, { vectorDim: 2, bits: 2 })
 * console.log(bitsPerValue(packLayer(layer)).total)
 * console.log(reconstructionError(weight, dequantizeLayer(layer), hessian).snrDb)
 * ```
 */
export async function quantizeLayer(
  weight: Matrix,
  hessian: Matrix,
  options: VqOptions & LayerTask = {},
): Promise<VqLayer> {
  const settings = settingsOf(options)
  const { name = 'weight' } = options
  requireFit(weight, hessian, name)
  const ready = readyRows(weight, hessian, ordinaryExponent(weight), settings, name)
  return quantizeRows({ ready, frame: frameOf(weight, ready, settings), firstGroup: 0, settings }, options)
}

/**
 * Quantizes some rows of a layer: what {@link quantizeLayer} gives of them, bit for bit.
 *
 * @param weight the rows, whole panels of the layer, x in
 * @param frame of the whole layer
 * @param firstGroup the number in the layer of their first row group
 * @throws as {@link quantizeLayer}
 */
export async function quantizePanel(
  weight: Matrix,
  hessian: Matrix,
  frame: LayerFrame,
  firstGroup: number,
  options: VqOptions & LayerTask = {},
): Promise<VqLayer> {
  const settings = settingsOf(options)
  const { name = 'weight' } = options
  requireFit(weight, hessian, name)
  const ready = readyRows(weight, hessian, frame.exponent, settings, name)
  return quantizeRows({ ready, frame, firstGroup, settings }, options)
}

function settingsOf(options: VqOptions & LayerTask): VqSettings {
  refuseUnknown(options, optionNames)
  if (options.tokens !== undefined) requireWhole('tokens', options.tokens, 1)
  return resolveVqOptions(options)
}
