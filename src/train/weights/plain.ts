import { decodeFloats, encodeFloats, type FloatDtype } from '../../checkpoint/dtype.js'
import type { Trainable } from './trainable.js'

/**
 * Plain numbers, such as the scales of a norm or the weight of a layer that is not quantized: they are trained as they
 * are, and run as their dtype holds them.
 *
 * @param values as they are at first; not changed
 * @param rate learning rate as a share of that of all else, times the values' size
 */
export function trainablePlain(
  values: Float32Array,
  dtype: FloatDtype,
  rate: number,
  decays = false,
): Trainable {
  const own = values.slice()
  let rounded = values
  const square = values.reduce((sum, value) => sum + value * value, 0)
  const size = Math.sqrt(square / values.length) || 1
  return {
    parameters: [{ name: 'values', values: own, sizes: rate * size, decays }],
    frozenBytes: dtype === 'F32' ? 0 : 4 * values.length,
    refresh() {
      rounded = dtype === 'F32' ? own : Float32Array.from(decodeFloats(dtype, encodeFloats(dtype, own)))
    },
    values: () => rounded,
    addGradient(onValues, [onOwn]) {
      for (let i = 0; i < onValues.length; i++) onOwn[i] += onValues[i]
    },
  }
}
