import { ShapeError } from '../../common/errors.js'
import { decodeBfloats } from '../../kernels/half.js'
import type { PackedWeight } from '../../kernels/packed-contract.js'
import { dequantize, type PackedQuantizedLayer, unpack } from '../../packing/quantized-layer.js'

/**
 * The weight of a linear layer: rows x cols values as in the checkpoint or the bits of these in bfloat16, a quantized layer
 * as it is stored, or one that the kernels of this package hold.
 */
export type LinearWeight = Float32Array | Uint16Array | PackedQuantizedLayer | PackedWeight

/** Whether a weight is one that the kernels hold. */
export function isPrepared(weight: LinearWeight): weight is PackedWeight {
  return !ArrayBuffer.isView(weight) && 'bytes' in weight
}

/**
 * The values of a weight, rows x cols.
 *
 * @throws ShapeError for one that the kernels hold
 */
export function expandedWeight({
  kind,
  weight,
}: {
  readonly kind: string
  readonly weight: LinearWeight
}): Float32Array {
  if (weight instanceof Uint16Array) {
    const values = new Float32Array(weight.length)
    decodeBfloats(weight, values)
    return values
  }
  if (ArrayBuffer.isView(weight)) return weight
  if (!isPrepared(weight)) return dequantize(unpack(weight)).data
  throw new ShapeError(`${kind}: the weight is held by the kernels; only they can multiply by it. Release it`)
}
