import { type DecodeBlock, halfAt } from './decode-blocks.js'

/**
 * The K kinds: 256 values in sub-blocks of 16 or 32, whose scales (and least values) are small integers times one half
 * of the whole block.
 */

/** 2 bits: 16 bytes of scale and least value (4 bits each), 64 bytes, half, half. */
export const decodeQ2K: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at + 80)
  const least = halfAt(bytes, at + 82)
  for (let i = 0; i < 256; i++) {
    const code = bytes[at + (i >> 4)]
    const value = (bytes[at + 16 + byteOfTwoBits(i)] >> shiftOfTwoBits(i)) & 3
    values[to + i] = scale * (code & 15) * value - least * (code >> 4)
  }
}

/** 3 bits: 32 bytes of third bits, 64 bytes, 16 scales of 6 bits less 32, half. A third bit of 0 takes 4 away. */
export const decodeQ3K: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at + 108)
  for (let i = 0; i < 256; i++) {
    const low = (bytes[at + 32 + byteOfTwoBits(i)] >> shiftOfTwoBits(i)) & 3
    const high = (bytes[at + (i & 31)] >> (i >> 5)) & 1
    values[to + i] = scale * (scaleOfQ3K(bytes, at + 96, i >> 4) - 32) * (low - (high === 1 ? 0 : 4))
  }
}

/** 4 bits: half, half, 8 scales and 8 least values of 6 bits, 128 bytes. */
export const decodeQ4K: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at)
  const least = halfAt(bytes, at + 2)
  for (let part = 0; part < 8; part++) {
    const step = scale * scaleOfPart(bytes, at + 4, part)
    const offset = least * leastOfPart(bytes, at + 4, part)
    const first = at + 16 + (part >> 1) * 32
    for (let i = 0; i < 32; i++) {
      const value = part & 1 ? bytes[first + i] >> 4 : bytes[first + i] & 15
      values[to + part * 32 + i] = step * value - offset
    }
  }
}

/** 5 bits: half, half, 8 scales and 8 least values of 6 bits, 32 bytes of fifth bits, 128 bytes. */
export const decodeQ5K: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at)
  const least = halfAt(bytes, at + 2)
  for (let part = 0; part < 8; part++) {
    const step = scale * scaleOfPart(bytes, at + 4, part)
    const offset = least * leastOfPart(bytes, at + 4, part)
    const first = at + 48 + (part >> 1) * 32
    for (let i = 0; i < 32; i++) {
      const low = part & 1 ? bytes[first + i] >> 4 : bytes[first + i] & 15
      const high = (bytes[at + 16 + i] >> part) & 1
      values[to + part * 32 + i] = step * (low | (high << 4)) - offset
    }
  }
}

/** 6 bits less 32: 128 bytes of four bits, 64 of two more, 16 scales of int8, half. */
export const decodeQ6K: DecodeBlock = (bytes, at, values, to) => {
  const scale = halfAt(bytes, at + 208)
  for (let i = 0; i < 256; i++) {
    const nibbles = bytes[at + (i >> 7) * 64 + (i & 63)]
    const low = i & 64 ? nibbles >> 4 : nibbles & 15
    const high = (bytes[at + 128 + (i >> 7) * 32 + (i & 31)] >> shiftOfTwoBits(i)) & 3
    const step = (bytes[at + 192 + (i >> 4)] << 24) >> 24
    values[to + i] = scale * step * ((low | (high << 4)) - 32)
  }
}

/** Where the two bits of value `i` are: each half of the block has 32 bytes, which hold 4 runs of 32 values. */
function byteOfTwoBits(i: number): number {
  return (i >> 7) * 32 + (i & 31)
}

function shiftOfTwoBits(i: number): number {
  return ((i >> 5) & 3) * 2
}

/** Scale `part` of 16: low nibbles in 8 bytes, two more bits in the 4 bytes behind them. */
function scaleOfQ3K(bytes: Uint8Array, at: number, part: number): number {
  const low = part < 8 ? bytes[at + part] & 15 : bytes[at + part - 8] >> 4
  return low | (((bytes[at + 8 + (part & 3)] >> ((part >> 2) * 2)) & 3) << 4)
}

/** Scale `part` of 8 in 12 bytes: the last four have their upper two bits above the first four. */
function scaleOfPart(bytes: Uint8Array, at: number, part: number): number {
  if (part < 4) return bytes[at + part] & 63
  return (bytes[at + part + 4] & 15) | ((bytes[at + part - 4] >> 6) << 4)
}

function leastOfPart(bytes: Uint8Array, at: number, part: number): number {
  if (part < 4) return bytes[at + part + 4] & 63
  return (bytes[at + part + 4] >> 4) | ((bytes[at + part] >> 6) << 4)
}
