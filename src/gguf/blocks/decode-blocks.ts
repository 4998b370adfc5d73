import { halfToFloat } from '../../kernels/half.js'

/**
 * Decodes one block: `bytes` from `at` on, into `values` from `to` on. Products of a half and a small integer are exact
 * in float64 and rounded once when they are stored.
 */
export type DecodeBlock = (bytes: Uint8Array, at: number, values: Float32Array, to: number) => void

/** A little-endian IEEE half. */
export function halfAt(bytes: Uint8Array, at: number): number {
  return halfToFloat(bytes[at] | (bytes[at + 1] << 8))
}

/** 32 int8 times one scale: half, 32 bytes. */
export const decodeQ8x0: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at)
  for (let i = 0; i < 32; i++) values[to + i] = scale * ((bytes[at + 2 + i] << 24) >> 24)
}

/** 32 values of 4 bits less 8, times one scale: half, 16 bytes. Low nibbles are the first 16 values. */
export const decodeQ4x0: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at)
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 2 + i]
    values[to + i] = scale * ((pair & 15) - 8)
    values[to + 16 + i] = scale * ((pair >> 4) - 8)
  }
}

/** 32 values of 4 bits times one scale and above one least value: half, half, 16 bytes. */
export const decodeQ4x1: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at)
  const least = halfAt(bytes, at + 2)
  for (let i = 0; i < 16; i++) {
    const pair = bytes[at + 4 + i]
    values[to + i] = scale * (pair & 15) + least
    values[to + 16 + i] = scale * (pair >> 4) + least
  }
}

/** 32 values of 5 bits less 16, times one scale: half, 32 fifth bits, 16 bytes. */
export const decodeQ5x0: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at)
  for (let i = 0; i < 32; i++) values[to + i] = scale * (fiveBits(bytes, at + 2, i) - 16)
}

/** 32 values of 5 bits times one scale and above one least value: half, half, 32 fifth bits, 16 bytes. */
export const decodeQ5x1: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at)
  const least = halfAt(bytes, at + 2)
  for (let i = 0; i < 32; i++) values[to + i] = scale * fiveBits(bytes, at + 4, i) + least
}

/** Value `i` of 32: fifth bits in the 4 bytes from `at` on, the nibbles behind them. */
function fiveBits(bytes: Uint8Array, at: number, i: number): number {
  const high = (bytes[at + (i >> 3)] >> (i & 7)) & 1
  const low = i < 16 ? bytes[at + 4 + i] & 15 : bytes[at + 4 + i - 16] >> 4
  return low | (high << 4)
}
