import { CODE_BITS, codesAt, field, LIFT, SPREAD } from './packed-weight'
import { chosen } from '../simd'

/** Takes codes apart: bytes for codes of up to 8 bits, 16 bits for longer ones. Up to 31 more are written. */
export function unpackCodes(weight: usize, row: i32, vector: i32, count: i32, to: usize): void {
  const bits = field(weight, CODE_BITS)
  const from = codesAt(weight, row, vector)
  if (bits == 8) memory.copy(to, from, count)
  else if (bits == 4) unpackNibbles(from, count, to)
  else if (bits < 8) unpackBits(from, bits, v128.load(weight, SPREAD), v128.load(weight, LIFT), count, to)
  else unpackWide(from, bits, count, to)
}

function unpackNibbles(from: usize, count: i32, to: usize): void {
  const end = to + <usize>count
  for (; to < end; to += 32) {
    const pairs = v128.load(from)
    const low = v128.and(pairs, i8x16.splat(15))
    const high = i8x16.shr_u(pairs, 4)
    v128.store(to, v128.shuffle<u8>(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23))
    v128.store(to, v128.shuffle<u8>(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), 16)
    from += 16
  }
}

/** 8 codes of less than 8 bits take `bits` bytes; each is brought to the top of the two bytes that it is in, then down. */
function unpackBits(from: usize, bits: i32, spread: v128, lift: v128, count: i32, to: usize): void {
  const end = to + <usize>count
  for (; to < end; to += 16) {
    const first = i16x8.mul(chosen(v128.load(from), spread), lift)
    const second = i16x8.mul(chosen(v128.load(from + <usize>bits), spread), lift)
    v128.store(to, i8x16.narrow_i16x8_u(i16x8.shr_u(first, 16 - bits), i16x8.shr_u(second, 16 - bits)))
    from += 2 * <usize>bits
  }
}

function unpackWide(from: usize, bits: i32, count: i32, to: usize): void {
  const mask = (1 << bits) - 1
  for (let i = 0, bit = 0; i < count; i++, bit += bits) {
    store<u16>(to + (<usize>i << 1), (load<u32>(from + <usize>(bit >> 3)) >> (bit & 7)) & mask)
  }
}
