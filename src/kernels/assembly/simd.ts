/** `c + a b` in four lanes: fused where the build has relaxed SIMD, two roundings in the baseline build. */
// @ts-expect-error: decorator
@inline
export function multiplyAdd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c)
  return f32x4.add(c, f32x4.mul(a, b))
}

/** `c - a b` in four lanes. */
// @ts-expect-error: decorator
@inline
export function multiplySubtract(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_nmadd(a, b, c)
  return f32x4.sub(c, f32x4.mul(a, b))
}

/** The first two of four floats in float64. */
// @ts-expect-error: decorator
@inline
export function lowHalf(values: v128): v128 {
  return f64x2.promote_low_f32x4(values)
}

/** The last two of four floats in float64. */
// @ts-expect-error: decorator
@inline
export function highHalf(values: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<f64>(values, values, 1, 0))
}

/** Two pairs of float64 in float32. */
// @ts-expect-error: decorator
@inline
export function demoted(low: v128, high: v128): v128 {
  return v128.shuffle<f64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2)
}

/** Up to four floats from `at` on, of which those from `end` on are 0. */
// @ts-expect-error: decorator
@inline
export function loadUpTo(at: usize, end: usize): v128 {
  return at + 16 <= end ? v128.load(at) : loadPart(at, end)
}

function loadPart(at: usize, end: usize): v128 {
  let values = v128.load32_zero(at)
  if (at + 4 < end) values = v128.load_lane<f32>(at + 4, values, 1)
  if (at + 8 < end) values = v128.load_lane<f32>(at + 8, values, 2)
  return values
}

/** Writes up to four floats from `at` on, none from `end` on. */
// @ts-expect-error: decorator
@inline
export function storeUpTo(at: usize, end: usize, values: v128): void {
  if (at + 16 <= end) v128.store(at, values)
  else storePart(at, end, values)
}

function storePart(at: usize, end: usize, values: v128): void {
  v128.store_lane<f32>(at, values, 0)
  if (at + 4 < end) v128.store_lane<f32>(at + 4, values, 1)
  if (at + 8 < end) v128.store_lane<f32>(at + 8, values, 2)
}

/** Bytes of a table of 16, by indices below 16. */
// @ts-expect-error: decorator
@inline
export function chosen(table: v128, indices: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i8x16.relaxed_swizzle(table, indices)
  return i8x16.swizzle(table, indices)
}

/** The bytes of two vectors by turns. */
// @ts-expect-error: decorator
@inline
export function mixLow(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
}

// @ts-expect-error: decorator
@inline
export function mixHigh(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
}

/** Words of 16 bits of two vectors by turns. */
// @ts-expect-error: decorator
@inline
export function mixLowWords(a: v128, b: v128): v128 {
  return v128.shuffle<u16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
}

// @ts-expect-error: decorator
@inline
export function mixHighWords(a: v128, b: v128): v128 {
  return v128.shuffle<u16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
}
