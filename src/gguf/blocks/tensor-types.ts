import { decodeFloats, type FloatDtype } from '../../checkpoint/dtype.js'
import { ShapeError } from '../../common/errors.js'
import {
  type DecodeBlock,
  decodeQ4x0,
  decodeQ4x1,
  decodeQ5x0,
  decodeQ5x1,
  decodeQ8x0,
} from './decode-blocks.js'
import { decodeQ2K, decodeQ3K, decodeQ4K, decodeQ5K, decodeQ6K } from './decode-k-blocks.js'

/** How the values of a tensor are stored in a GGUF file: in blocks along a row. */
export interface GgufType {
  /** The format's own name, e.g. `'Q4_K'`. */
  readonly name: string
  /** Its number in the file. */
  readonly id: number
  /** Values in a block. */
  readonly blockValues: number
  /** Bytes of a block. */
  readonly blockBytes: number
  /** For F32, F16, BF16 and F64 the dtype that has the same bytes. */
  readonly plain?: FloatDtype
  /** For the others. */
  readonly decodeBlock?: DecodeBlock
}

const plain = (name: FloatDtype, id: number, bytes: number): GgufType => ({
  name,
  id,
  blockValues: 1,
  blockBytes: bytes,
  plain: name,
})

const blocks = (
  name: string,
  id: number,
  blockValues: number,
  blockBytes: number,
  decodeBlock: DecodeBlock,
): GgufType => ({ name, id, blockValues, blockBytes, decodeBlock })

/** The types that are read. */
export const ggufTypes: readonly GgufType[] = [
  plain('F32', 0, 4),
  plain('F16', 1, 2),
  blocks('Q4_0', 2, 32, 18, decodeQ4x0),
  blocks('Q4_1', 3, 32, 20, decodeQ4x1),
  blocks('Q5_0', 6, 32, 22, decodeQ5x0),
  blocks('Q5_1', 7, 32, 24, decodeQ5x1),
  blocks('Q8_0', 8, 32, 34, decodeQ8x0),
  blocks('Q2_K', 10, 256, 84, decodeQ2K),
  blocks('Q3_K', 11, 256, 110, decodeQ3K),
  blocks('Q4_K', 12, 256, 144, decodeQ4K),
  blocks('Q5_K', 13, 256, 176, decodeQ5K),
  blocks('Q6_K', 14, 256, 210, decodeQ6K),
  plain('F64', 28, 8),
  plain('BF16', 30, 2),
]

/** The type of this name. */
export function ggufType(name: string): GgufType {
  return ggufTypes.find((type) => type.name === name)!
}

/** Bytes of `values` values, a whole number of blocks. */
export function bytesOfType(type: GgufType, values: number): number {
  return (values / type.blockValues) * type.blockBytes
}

/**
 * Decodes whole blocks to float32: exactly the numbers that the blocks stand for, rounded once.
 *
 * @param values one for each stored value
 * @throws ShapeError when the bytes are another number of blocks
 */
export function decodeType(type: GgufType, bytes: Uint8Array, values: Float32Array): Float32Array {
  const expected = bytesOfType(type, values.length)
  if (bytes.length !== expected) {
    throw new ShapeError(
      `${values.length} values of ${type.name} need ${expected} bytes, got ${bytes.length}`,
    )
  }
  if (type.plain !== undefined) return decodeFloats(type.plain, bytes, values)
  const { decodeBlock, blockValues, blockBytes } = type
  for (let to = 0, at = 0; to < values.length; to += blockValues, at += blockBytes) {
    decodeBlock!(bytes, at, values, to)
  }
  return values
}
