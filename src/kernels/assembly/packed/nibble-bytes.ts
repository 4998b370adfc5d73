import { chosen, multiplyAdd } from '../simd'

/** Behind the totals of rows: constants, which engines would make anew at each use. */
export const FIFTEEN: usize = 0
const ONES: usize = 16
export const CONSTANTS_BYTES: usize = 32

export function writeConstants(end: usize): void {
  v128.store(end, i8x16.splat(15), FIFTEEN)
  v128.store(end, i16x8.splat(1), ONES)
}

/** Adds the sum of a row, scaled. */
// @ts-expect-error: decorator
@inline
export function addTotal(total: usize, factor: usize, sums: v128): void {
  const scaled = f32x4.convert_i32x4_s(sums)
  v128.store(total, multiplyAdd(v128.load32_splat(factor), scaled, v128.load(total)))
}

/**
 * Brings pieces of 8 bits into the form that is multiplied with relaxed SIMD: of 64 slots 64 magnitudes, then as many signs;
 * where low pieces would be, the sum of negative magnitudes, in four parts.
 */
export function splitBytes(x: usize, low: usize, slots: i32): void {
  for (const end = x + (<usize>slots << 1); x < end; x += 128, low += 128) {
    const a = i8x16.narrow_i16x8_s(v128.load(x), v128.load(x, 16))
    const b = i8x16.narrow_i16x8_s(v128.load(x, 32), v128.load(x, 48))
    const c = i8x16.narrow_i16x8_s(v128.load(x, 64), v128.load(x, 80))
    const d = i8x16.narrow_i16x8_s(v128.load(x, 96), v128.load(x, 112))
    const two = i32x4.add(splitSixteen(a, x), splitSixteen(b, x + 16))
    v128.store(low, i32x4.add(two, i32x4.add(splitSixteen(c, x + 32), splitSixteen(d, x + 48))))
  }
}

// @ts-expect-error: decorator
@inline
function splitSixteen(pieces: v128, to: usize): v128 {
  const signs = i8x16.shr_s(pieces, 7)
  const magnitudes = i8x16.abs(pieces)
  v128.store(to, magnitudes)
  v128.store(to, signs, 64)
  return i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(v128.and(magnitudes, signs)))
}

/** An element `e` of a negative piece becomes `-e - 1`. */
// @ts-expect-error: decorator
@inline
function relaxedDot(elements: v128, magnitudes: v128, signs: v128, ones: v128): v128 {
  return i32x4.dot_i16x8_s(i16x8.relaxed_dot_i8x16_i7x16_s(v128.xor(elements, signs), magnitudes), ones)
}

/**
 * As `addWhole` of nibble-product.ts, for pieces of 8 bits. Relaxed SIMD adds products of 8 bits up in pairs at once, but one
 * factor must not be negative: that is the magnitude of an activation, and its sign goes to the element. Two products are
 * below 2^15, so that all engines give the same.
 */
export function addBytes(
  codes: usize,
  table: usize,
  x: usize,
  apart: usize,
  factors: usize,
  room: usize,
  totals: usize,
  end: usize,
): void {
  const firsts = v128.load(table)
  const seconds = v128.load(table, 16)
  const fifteen = v128.load(end, FIFTEEN)
  const ones = v128.load(end, ONES)
  const less = v128.load(x + apart)
  const x0 = v128.load(x)
  const x1 = v128.load(x, 16)
  const x2 = v128.load(x, 32)
  const x3 = v128.load(x, 48)
  const s0 = v128.load(x, 64)
  const s1 = v128.load(x, 80)
  const s2 = v128.load(x, 96)
  const s3 = v128.load(x, 112)
  for (; totals < end; codes += 16, factors += room, totals += 16) {
    const pairs = v128.load(codes)
    const low = v128.and(pairs, fifteen)
    const high = v128.and(i16x8.shr_u(pairs, 4), fifteen)
    let sums = i32x4.add(less, relaxedDot(chosen(firsts, low), x0, s0, ones))
    sums = i32x4.add(sums, relaxedDot(chosen(seconds, low), x1, s1, ones))
    sums = i32x4.add(sums, relaxedDot(chosen(firsts, high), x2, s2, ones))
    addTotal(totals, factors, i32x4.add(sums, relaxedDot(chosen(seconds, high), x3, s3, ones)))
  }
}
