import { multiplyAdd, multiplySubtract } from '../simd'

/**
 * `x = turns ln(2) + rest`, so `exp(x) = 2^turns exp(rest)` with `|rest| <= ln(2) / 2`, where the series of `exp` converges
 * fast. `ln(2)` is taken in two parts, the first so short that a multiple of it is exact.
 */
const LN2_HIGH: f32 = 0.693359375
const LN2_LOW: f32 = -2.12194440054690583e-4
/** Below, the result would not be a normal number; above, not finite. */
const LOWEST: f32 = -87
const HIGHEST: f32 = 88
/** Added to a number of less than 2^22, it leaves that rounded to a whole one in the last bits of the sum. */
const ROUNDING: f32 = 12582912

/** `exp(x)` in four lanes of float32, within 2^-22 of itself: 0 below -87 and for NaN, `exp(88)` above 88. */
// @ts-expect-error: decorator
@inline
export function exponential(x: v128): v128 {
  return exponentialUpTo88(f32x4.pmin(x, f32x4.splat(HIGHEST)))
}

/** The same for x not above 88. */
// @ts-expect-error: decorator
@inline
export function exponentialUpTo88(x: v128): v128 {
  const turns = turnsOf(x)
  return v128.and(power(turns, restOf(x, turns)), f32x4.ge(x, f32x4.splat(LOWEST)))
}

/** The same of `x + low`, a sum of float32 numbers as near to it as no single one: `low` is far smaller than `x`. */
// @ts-expect-error: decorator
@inline
export function exponentialOfSum(x: v128, low: v128): v128 {
  const bounded = f32x4.pmin(x, f32x4.splat(HIGHEST))
  const turns = turnsOf(bounded)
  const rest = f32x4.add(restOf(bounded, turns), low)
  return v128.and(power(turns, rest), f32x4.ge(x, f32x4.splat(LOWEST)))
}

/** `exp(x) - 1` in four lanes, within 2^-21 of itself; x is taken for -87 below that and for 88 above. NaN goes through. */
// @ts-expect-error: decorator
@inline
export function exponentialLess1(x: v128): v128 {
  const bounded = f32x4.pmax(f32x4.pmin(x, f32x4.splat(HIGHEST)), f32x4.splat(LOWEST))
  const turns = turnsOf(bounded)
  const rest = restOf(bounded, turns)
  const power = powerOf2(turns)
  // 2^turns (exp(rest) - 1) + (2^turns - 1)
  return multiplyAdd(power, f32x4.mul(series(rest), rest), f32x4.sub(power, f32x4.splat(1)))
}

/** Whole turns plus `ROUNDING`. */
// @ts-expect-error: decorator
@inline
function turnsOf(x: v128): v128 {
  return f32x4.add(f32x4.mul(x, f32x4.splat(<f32>1.44269504088896341)), f32x4.splat(ROUNDING))
}

// @ts-expect-error: decorator
@inline
function restOf(x: v128, turns: v128): v128 {
  const whole = f32x4.sub(turns, f32x4.splat(ROUNDING))
  const rest = multiplySubtract(whole, f32x4.splat(LN2_HIGH), x)
  return multiplySubtract(whole, f32x4.splat(LN2_LOW), rest)
}

/** `2^turns exp(rest)` */
// @ts-expect-error: decorator
@inline
function power(turns: v128, rest: v128): v128 {
  return f32x4.mul(multiplyAdd(series(rest), rest, f32x4.splat(1)), powerOf2(turns))
}

/** The last bits of `turns` are whole turns, which go into the exponent; what is above them is shifted out. */
// @ts-expect-error: decorator
@inline
function powerOf2(turns: v128): v128 {
  return i32x4.shl(i32x4.add(turns, i32x4.splat(127)), 23)
}

/** `(exp(rest) - 1) / rest` */
// @ts-expect-error: decorator
@inline
function series(rest: v128): v128 {
  let sum = multiplyAdd(f32x4.splat(<f32>(1.0 / 5040)), rest, f32x4.splat(<f32>(1.0 / 720)))
  sum = multiplyAdd(sum, rest, f32x4.splat(<f32>(1.0 / 120)))
  sum = multiplyAdd(sum, rest, f32x4.splat(<f32>(1.0 / 24)))
  sum = multiplyAdd(sum, rest, f32x4.splat(<f32>(1.0 / 6)))
  sum = multiplyAdd(sum, rest, f32x4.splat(0.5))
  return multiplyAdd(sum, rest, f32x4.splat(1))
}

const LN2_HIGH_64: f64 = 0.693145751953125
const LN2_LOW_64: f64 = 1.42860682030941723212e-6
const LOWEST_64: f64 = -700

/** `exp(x)` for x not above 0 in two lanes of float64, within 2^-46 of itself: 0 below -700 and for NaN. */
// @ts-expect-error: decorator
@inline
export function exponential64(x: v128): v128 {
  const turns = f64x2.nearest(f64x2.mul(x, f64x2.splat(1.44269504088896341)))
  let rest = f64x2.sub(x, f64x2.mul(turns, f64x2.splat(LN2_HIGH_64)))
  rest = f64x2.sub(rest, f64x2.mul(turns, f64x2.splat(LN2_LOW_64)))
  let series = next64(f64x2.splat(1.0 / 39916800), rest, 1.0 / 3628800)
  series = next64(series, rest, 1.0 / 362880)
  series = next64(series, rest, 1.0 / 40320)
  series = next64(series, rest, 1.0 / 5040)
  series = next64(series, rest, 1.0 / 720)
  series = next64(series, rest, 1.0 / 120)
  series = next64(series, rest, 1.0 / 24)
  series = next64(series, rest, 1.0 / 6)
  series = next64(series, rest, 0.5)
  series = next64(series, rest, 1)
  series = next64(series, rest, 1)
  const exponent = i64x2.extend_low_i32x4_s(i32x4.trunc_sat_f64x2_s_zero(turns))
  const power = i64x2.shl(i64x2.add(exponent, i64x2.splat(1023)), 52)
  return v128.and(f64x2.mul(series, power), f64x2.ge(x, f64x2.splat(LOWEST_64)))
}

// @ts-expect-error: decorator
@inline
function next64(series: v128, rest: v128, term: f64): v128 {
  return f64x2.add(f64x2.mul(series, rest), f64x2.splat(term))
}
