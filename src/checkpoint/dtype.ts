import { CheckpointError, ShapeError } from '../common/errors.js'
import { decodeBfloats, decodeHalves, encodeBfloats, encodeHalves } from '../kernels/half.js'

/** Bytes of one element of each element type of a safetensors file. */
const ELEMENT_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const

/**
 * Element type of a tensor, by its name in a safetensors header: `F64`, `F32`, `F16`, `BF16`, `I64`, `I32`, `I16`, `I8`,
 * `U64`, `U32`, `U16`, `U8` or `BOOL`.
 */
export type Dtype = keyof typeof ELEMENT_BYTES

/** The element types that are read as float32. */
export type FloatDtype = 'F64' | 'F32' | 'F16' | 'BF16'

/** Every dtype that can be read and written. */
export const DTYPES = Object.keys(ELEMENT_BYTES) as readonly Dtype[]

/** Whether `name` is one of {@link DTYPES}. */
export function isDtype(name: string): name is Dtype {
  return Object.hasOwn(ELEMENT_BYTES, name)
}

/** Whether `dtype` holds floating-point numbers. */
export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'F64' || dtype === 'F32' || dtype === 'F16' || dtype === 'BF16'
}

/** Bytes of one element. */
export function bytesPerElement(dtype: Dtype): number {
  return ELEMENT_BYTES[dtype]
}

/** Elements of a tensor of this shape: 1 for a scalar (`[]`), `Infinity` when beyond exact integers. */
export function elementCount(shape: readonly number[]): number {
  if (shape.includes(0)) return 0
  let count = 1
  for (const size of shape) {
    count *= size
    if (count > Number.MAX_SAFE_INTEGER) return Number.POSITIVE_INFINITY
  }
  return count
}

/** Bytes of a tensor; `Infinity` when beyond exact integers. */
export function tensorBytes(dtype: Dtype, shape: readonly number[]): number {
  const bytes = elementCount(shape) * ELEMENT_BYTES[dtype]
  return Number.isSafeInteger(bytes) ? bytes : Number.POSITIVE_INFINITY
}

/**
 * Decodes little-endian `bytes` (at any alignment) to float32. F32, F16 and BF16 are exact; F64 rounds to nearest,
 * so that a value beyond float32 becomes infinity.
 *
 * @param target array of one value per element that receives them; a new one by default. Shares no memory with `bytes`
 * @returns `target`
 * @throws CheckpointError when `dtype` is not a floating-point dtype
 * @throws ShapeError when `bytes` is no whole number of elements or `target` has another length
 */
export function decodeFloats(dtype: Dtype, bytes: Uint8Array, target?: Float32Array): Float32Array {
  const float = requireFloat(dtype)
  const size = ELEMENT_BYTES[float]
  const count = bytes.length / size
  if (!Number.isInteger(count)) {
    throw new ShapeError(
      `${bytes.length} bytes are no whole number of ${dtype} elements of ${size} bytes each`,
    )
  }
  const values = target ?? new Float32Array(count)
  if (values.length !== count) {
    throw new ShapeError(`${count} ${dtype} elements cannot be decoded into an array of ${values.length}`)
  }
  const { buffer, byteOffset } = inHostOrder(bytes, size)
  if (float === 'F64') values.set(new Float64Array(buffer, byteOffset, count))
  else if (float === 'F32') values.set(new Float32Array(buffer, byteOffset, count))
  else if (float === 'F16') decodeHalves(new Uint16Array(buffer, byteOffset, count), values)
  else decodeBfloats(new Uint16Array(buffer, byteOffset, count), values)
  return values
}

/**
 * Encodes float32 values as little-endian bytes of `dtype`: F64 and F32 exactly, F16 and BF16 to nearest, ties to even.
 *
 * @returns a new array of `values.length * bytesPerElement(dtype)` bytes
 * @throws CheckpointError when `dtype` is not a floating-point dtype
 */
export function encodeFloats(dtype: Dtype, values: Float32Array): Uint8Array {
  const float = requireFloat(dtype)
  const size = ELEMENT_BYTES[float]
  const bytes = new Uint8Array(values.length * size)
  if (float === 'F64') new Float64Array(bytes.buffer).set(values)
  else if (float === 'F32') new Float32Array(bytes.buffer).set(values)
  else if (float === 'F16') encodeHalves(values, new Uint16Array(bytes.buffer))
  else encodeBfloats(values, new Uint16Array(bytes.buffer))
  return inHostOrder(bytes, size)
}

function requireFloat(dtype: Dtype): FloatDtype {
  if (isFloatDtype(dtype)) return dtype
  throw new CheckpointError(`dtype ${dtype} holds no floating-point numbers; expected F64, F32, F16 or BF16`)
}

const LITTLE_ENDIAN_HOST = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1

/** `bytes` itself, or a copy where it must be aligned or (both ways alike) its elements' bytes reversed. */
function inHostOrder(bytes: Uint8Array, size: number): Uint8Array {
  if (LITTLE_ENDIAN_HOST && bytes.byteOffset % size === 0) return bytes
  const copy = new Uint8Array(bytes)
  if (!LITTLE_ENDIAN_HOST) {
    for (let start = 0; start < copy.length; start += size) copy.subarray(start, start + size).reverse()
  }
  return copy
}

/** Width of a float, and where its exponent lies in its highest 16 bits: all ones there mean NaN or infinity. */
const FLOAT_FORMATS: Record<FloatDtype, { readonly bytes: number; readonly exponentMask: number }> = {
  F64: { bytes: 8, exponentMask: 0x7ff0 },
  F32: { bytes: 4, exponentMask: 0x7f80 },
  F16: { bytes: 2, exponentMask: 0x7c00 },
  BF16: { bytes: 2, exponentMask: 0x7f80 },
}

/** The index of the first element that is NaN or infinite, -1 when all are finite or the dtype knows no such values. */
export function firstNonFinite(dtype: Dtype, bytes: Uint8Array): number {
  if (!isFloatDtype(dtype)) return -1
  const { bytes: width, exponentMask } = FLOAT_FORMATS[dtype]
  const [high, low] = [exponentMask >> 8, exponentMask & 0xff]
  for (let top = width - 1; top < bytes.length; top += width) {
    if ((bytes[top] & high) === high && (bytes[top - 1] & low) === low) return (top - width + 1) / width
  }
  return -1
}
