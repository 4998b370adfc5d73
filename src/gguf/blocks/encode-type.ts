import { encodeFloats } from '../../checkpoint/dtype.js'
import {
  type EncodeBlock,
  encodeQ4x0,
  encodeQ4x1,
  encodeQ5x0,
  encodeQ5x1,
  encodeQ8x0,
} from './encode-blocks.js'
import { bytesOfType, type GgufType } from './tensor-types.js'

const encoders: Readonly<Record<string, EncodeBlock>> = {
  Q4_0: encodeQ4x0,
  Q4_1: encodeQ4x1,
  Q5_0: encodeQ5x0,
  Q5_1: encodeQ5x1,
  Q8_0: encodeQ8x0,
}

/**
 * Encodes whole blocks.
 *
 * @param encoderOf of each block, counted from the first value; that of the type when left out
 */
export function encodeType(
  type: GgufType,
  values: Float32Array,
  encoderOf?: (block: number) => EncodeBlock,
): Uint8Array {
  if (type.plain !== undefined) return encodeFloats(type.plain, values)
  const bytes = new Uint8Array(bytesOfType(type, values.length))
  const usual = encoders[type.name]
  for (let block = 0, from = 0; from < values.length; block++, from += type.blockValues) {
    const encode = encoderOf?.(block) ?? usual
    encode(values, from, bytes, block * type.blockBytes)
  }
  return bytes
}
