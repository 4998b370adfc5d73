import { requireObject } from '../common/check-option.js'
import { ShapeError } from '../common/errors.js'
import { type Matrix, requireMatrix } from '../common/matrix.js'
import { HessianAccumulator } from '../hessian/hessian.js'
import { type BitsPerValue, bitsPerValue } from '../packing/bits-per-value.js'
import { type PackedLayer, packLayer } from '../packing/pack-layer.js'
import { dequantizeLayer, type VqLayer } from '../packing/vq-layer.js'
import type { VqOptions } from './options.js'
import { type LayerTask, quantizeLayer } from './quantize-layer.js'
import { type ReconstructionError, reconstructionError } from './reconstruction-error.js'

/** A layer quantized on its inputs, and what is to be known of it. */
export interface LayerOnInputs {
  /** In its stored values. */
  readonly layer: VqLayer
  /** As bytes. */
  readonly packed: PackedLayer
  /** Its weights, out x in. */
  readonly weight: Matrix
  /** Of these bytes, all counted. */
  readonly bits: BitsPerValue
  /** On these inputs; on others it is larger, the more so the fewer tokens there are. */
  readonly error: ReconstructionError
}

/**
 * Quantizes a layer from its weight and what it was given to work on: the Hessian, `quantizeLayer`, packing and error in
 * one call.
 *
 * @param weight out x in
 * @param inputs tokens x in; one matrix, or batches of them
 * @throws ShapeError without a token, or when widths differ; else as `quantizeLayer`
 * @example
 * ```ts
 * const { packed, bits, error } = await quantizeOnInputs(weight, activations, { bits: 2 })
 * console.log(`${bits.total} bits a value, ${error.snrDb} dB`)
 * ```
 */
export async function quantizeOnInputs(
  weight: Matrix,
  inputs: Matrix | Iterable<Matrix>,
  options: VqOptions & Omit<LayerTask, 'tokens'> = {},
): Promise<LayerOnInputs> {
  requireMatrix(weight, 'weight')
  requireObject('options', options)
  const seen = new HessianAccumulator(weight.cols)
  for (const batch of Symbol.iterator in Object(inputs) ? (inputs as Iterable<Matrix>) : [inputs as Matrix]) {
    seen.add(batch)
  }
  if (seen.tokens === 0)
    throw new ShapeError('inputs hold no tokens; expected at least one row of activations')
  const hessian = seen.hessian()
  const layer = await quantizeLayer(weight, hessian, { ...options, tokens: seen.tokens })
  const packed = packLayer(layer)
  const restored = dequantizeLayer(layer)
  return {
    layer,
    packed,
    weight: restored,
    bits: bitsPerValue(packed),
    error: reconstructionError(weight, restored, hessian, options.name),
  }
}
