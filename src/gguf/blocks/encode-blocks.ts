import { floatToHalf, halfToFloat } from '../../kernels/half.js'

/** Encodes 32 values from `from` on into a block at `at`. */
export type EncodeBlock = (values: Float32Array, from: number, bytes: Uint8Array, at: number) => void

const SIZE = 32

function setHalf(bytes: Uint8Array, at: number, half: number): number {
  bytes[at] = half & 255
  bytes[at + 1] = half >> 8
  return halfToFloat(half)
}

/** The value of largest magnitude, with its sign. */
function extremeOf(values: Float32Array, from: number): number {
  let extreme = 0
  for (let i = from; i < from + SIZE; i++) if (Math.abs(values[i]) > Math.abs(extreme)) extreme = values[i]
  return extreme
}

/** Codes of int8 times the half nearest to `scale`: for values that are such codes already, these very codes. */
export function encodeQ8x0By(
  scale: number,
  values: Float32Array,
  from: number,
  bytes: Uint8Array,
  at: number,
): void {
  setHalf(bytes, at, floatToHalf(scale))
  for (let i = 0; i < SIZE; i++) {
    const code = scale === 0 ? 0 : Math.round(values[from + i] / scale)
    bytes[at + 2 + i] = Math.max(-127, Math.min(127, code)) & 255
  }
}

/** Q8_0: the largest magnitude becomes 127. */
export const encodeQ8x0: EncodeBlock = (values, from, bytes, at) => {
  // codes are made for the half that is stored
  encodeQ8x0By(halfToFloat(floatToHalf(Math.abs(extremeOf(values, from)) / 127)), values, from, bytes, at)
}

/** How far scales are tried below and above the one that just reaches the extreme value. */
const TRIES = [1, 0.95, 0.9, 0.85, 1.05]

/** The scale, rounded to a half, of the least squared error among {@link TRIES}; codes run from `-levels` to `levels - 1`. */
function bestScale(values: Float32Array, from: number, levels: number): number {
  const extreme = extremeOf(values, from)
  let best = 0
  let least = Number.POSITIVE_INFINITY
  for (const share of TRIES) {
    // the extreme takes the end of the codes that has one more
    const half = floatToHalf((share * extreme) / -levels)
    const scale = halfToFloat(half)
    if (scale === 0) continue
    let error = 0
    for (let i = from; i < from + SIZE; i++) {
      const code = Math.max(-levels, Math.min(levels - 1, Math.round(values[i] / scale)))
      error += (values[i] - code * scale) ** 2
    }
    if (error < least) {
      least = error
      best = half
    }
  }
  return best
}

const symmetric =
  (levels: number, put: (bytes: Uint8Array, at: number, i: number, code: number) => void): EncodeBlock =>
  (values, from, bytes, at) => {
    const scale = setHalf(bytes, at, bestScale(values, from, levels))
    for (let i = 0; i < SIZE; i++) {
      const code = scale === 0 ? 0 : Math.round(values[from + i] / scale)
      put(bytes, at + 2, i, Math.max(-levels, Math.min(levels - 1, code)) + levels)
    }
  }

/** Codes from 0 to `largest` above the least value, which is rounded down to a half so that none is cut off. */
const asymmetric =
  (largest: number, put: (bytes: Uint8Array, at: number, i: number, code: number) => void): EncodeBlock =>
  (values, from, bytes, at) => {
    let low = Number.POSITIVE_INFINITY
    let high = Number.NEGATIVE_INFINITY
    for (let i = from; i < from + SIZE; i++) {
      low = Math.min(low, values[i])
      high = Math.max(high, values[i])
    }
    encodeAboveBy((high - low) / largest, low, largest, put, values, from, bytes, at)
  }

function encodeAboveBy(
  wantedScale: number,
  wantedLeast: number,
  largest: number,
  put: (bytes: Uint8Array, at: number, i: number, code: number) => void,
  values: Float32Array,
  from: number,
  bytes: Uint8Array,
  at: number,
): void {
  const scale = setHalf(bytes, at, floatToHalf(wantedScale))
  const least = setHalf(bytes, at + 2, floatToHalf(wantedLeast))
  for (let i = 0; i < SIZE; i++) {
    const code = scale === 0 ? 0 : Math.round((values[from + i] - least) / scale)
    put(bytes, at + 4, i, Math.max(0, Math.min(largest, code)))
  }
}

/** Low nibbles are the first 16 codes; the bytes must be 0 before. */
function putNibble(bytes: Uint8Array, at: number, i: number, code: number): void {
  bytes[at + (i & 15)] |= i < 16 ? code & 15 : (code & 15) << 4
}

/** Fifth bits in 4 bytes, the nibbles behind them. */
function putFive(bytes: Uint8Array, at: number, i: number, code: number): void {
  bytes[at + (i >> 3)] |= (code >> 4) << (i & 7)
  putNibble(bytes, at + 4, i, code)
}

/** Q4_0: 16 codes, symmetric but for one. */
export const encodeQ4x0 = symmetric(8, putNibble)
/** Q5_0: 32 codes, symmetric but for one. */
export const encodeQ5x0 = symmetric(16, putFive)
/** Q4_1: 16 codes above the least value. */
export const encodeQ4x1 = asymmetric(15, putNibble)
/** Q5_1: 32 codes above the least value. */
export const encodeQ5x1 = asymmetric(31, putFive)

/** Q4_1 with a scale and a least value that are given. */
export function encodeQ4x1By(scale: number, least: number): EncodeBlock {
  return (values, from, bytes, at) => encodeAboveBy(scale, least, 15, putNibble, values, from, bytes, at)
}

/** Q5_1 with a scale and a least value that are given. */
export function encodeQ5x1By(scale: number, least: number): EncodeBlock {
  return (values, from, bytes, at) => encodeAboveBy(scale, least, 31, putFive, values, from, bytes, at)
}
