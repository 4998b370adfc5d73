/**
 * Conversion between float32 and the two 16-bit formats of checkpoints. All roundings are to nearest, ties to even;
 * NaN stays NaN, values beyond the largest half become infinity, subnormals are exact.
 */

const floatScratch = new Float32Array(1)
const bitsScratch = new Uint32Array(floatScratch.buffer)

/** The IEEE 754 binary16 bits nearest to `value` (after its rounding to float32). */
export function floatToHalf(value: number): number {
  floatScratch[0] = value
  const bits = bitsScratch[0]
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  // 65520 is halfway between the largest half and the next power of two: it and all above round to infinity
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude >= 0x38800000) {
    const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1)
    return sign | ((rounded - 0x38000000) >>> 13)
  }
  // subnormal: an exact multiplication by 2^24, then an integer rounding
  floatScratch[0] = value
  const scaled = Math.abs(floatScratch[0]) * 2 ** 24
  const floor = Math.floor(scaled)
  const rest = scaled - floor
  return sign | (floor + (rest > 0.5 || (rest === 0.5 && (floor & 1) === 1) ? 1 : 0))
}

/** The value of IEEE 754 binary16 bits. Exact. */
export function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >>> 10) & 0x1f
  const mantissa = half & 0x3ff
  if (exponent === 0) return sign * mantissa * 2 ** -24
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (1024 + mantissa) * 2 ** (exponent - 25)
}

/** The bfloat16 bits nearest to `value` (after its rounding to float32). */
export function floatToBfloat(value: number): number {
  floatScratch[0] = value
  return bfloatOfBits(bitsScratch[0])
}

/** The value of bfloat16 bits. Exact. */
export function bfloatToFloat(bfloat: number): number {
  bitsScratch[0] = bfloat << 16
  return floatScratch[0]
}

function bfloatOfBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) & 0x8000) | 0x7fc0
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

let halfTable: Float32Array | undefined

/** Decodes `source` (binary16 bits) into `target`, both of the same length. */
export function decodeHalves(source: Uint16Array, target: Float32Array): void {
  halfTable ??= Float32Array.from({ length: 65536 }, (_, half) => halfToFloat(half))
  for (let i = 0; i < source.length; i++) target[i] = halfTable[source[i]]
}

/** Encodes `source` into binary16 bits in `target`, both of the same length. */
export function encodeHalves(source: Float32Array, target: Uint16Array): void {
  for (let i = 0; i < source.length; i++) target[i] = floatToHalf(source[i])
}

/** Decodes `source` (bfloat16 bits) into `target`, both of the same length. */
export function decodeBfloats(source: Uint16Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length)
  for (let i = 0; i < source.length; i++) bits[i] = source[i] << 16
}

/** Encodes `source` into bfloat16 bits in `target`, both of the same length. */
export function encodeBfloats(source: Float32Array, target: Uint16Array): void {
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length)
  for (let i = 0; i < source.length; i++) target[i] = bfloatOfBits(bits[i])
}
