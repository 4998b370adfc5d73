import {
  CODE_BITS,
  codesAt,
  field,
  IS_NARROW,
  LIFT,
  POWERS,
  rowAt,
  SPLITS,
  SPREAD,
  STATE_BITS,
  VECTOR_DIM,
} from './packed-weight'
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

/** What takes the codes of some columns apart: of each its bytes, what moves it within them, its mask; where they are. */
const SPLIT_BYTES: usize = 64

/**
 * Takes the codes of a trellis' row, from a vector on whose number is a multiple of 8, into its numbers, 16 bits each, times
 * the bytes of a centroid: where they are in their table. Up to 7 more are written.
 */
export function advanceNumbers(weight: usize, row: i32, vector: i32, count: i32, numbers: usize): void {
  const d = field(weight, VECTOR_DIM)
  const largest: i32 = ((1 << field(weight, STATE_BITS)) - 1) * d
  const mask = i16x8.splat(<i16>largest)
  const powers = load<usize>(weight, POWERS) + (<usize>vector << 1)
  const end = numbers + (<usize>count << 1)
  const codes = rowAt(weight, row)
  if (field(weight, IS_NARROW)) {
    const split = load<usize>(weight, SPLITS) + <usize>(vector >> 3) * SPLIT_BYTES
    advanceNarrow(codes, split, powers, d >> 1, mask, numbers, end)
  } else {
    const split = load<usize>(weight, SPLITS) + <usize>(vector >> 2) * SPLIT_BYTES
    advanceWide(codes, split, powers, LIFTED - (d >> 1), mask, numbers, end)
  }
}

/** Codes of up to 7 bits, 8 at a time: each is 1 to 8 bits above the start of its two bytes. */
function advanceNarrow(
  codes: usize,
  split: usize,
  powers: usize,
  shift: i32,
  mask: v128,
  numbers: usize,
  end: usize,
): void {
  for (; numbers < end; numbers += 16, powers += 16, split += SPLIT_BYTES) {
    const bytes = chosen(v128.load(codes + load<usize>(split, 48)), v128.load(split))
    // a product with 2^15 over a power of two, rounded: what would round is masked away
    const moved = i16x8.q15mulr_sat_s(v128.and(bytes, v128.load(split, 32)), v128.load(split, 16))
    const above = i16x8.mul(v128.load(numbers), v128.load(powers))
    v128.store(numbers, v128.and(v128.or(above, i16x8.shl(moved, shift)), mask))
  }
}

/** Codes are lifted to so many bits above the start of their bytes, and brought down together. */
const LIFTED: i32 = 7

/** Longer codes, 4 at a time in four bytes each. */
function advanceWide(
  codes: usize,
  split: usize,
  powers: usize,
  down: i32,
  mask: v128,
  numbers: usize,
  end: usize,
): void {
  for (; numbers < end; numbers += 16, powers += 16, split += 2 * SPLIT_BYTES) {
    const first = fourCodes(codes, split, down)
    const own = i16x8.narrow_i32x4_u(first, fourCodes(codes, split + SPLIT_BYTES, down))
    const above = i16x8.mul(v128.load(numbers), v128.load(powers))
    v128.store(numbers, v128.and(v128.or(above, own), mask))
  }
}

// @ts-expect-error: decorator
@inline
function fourCodes(codes: usize, split: usize, down: i32): v128 {
  const bytes = chosen(v128.load(codes + load<usize>(split, 48)), v128.load(split))
  return v128.and(i32x4.shr_u(i32x4.mul(bytes, v128.load(split, 16)), down), v128.load(split, 32))
}
