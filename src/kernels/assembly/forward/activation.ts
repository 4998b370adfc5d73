import { exponential, exponentialLess1, exponentialOfSum } from './exponential'
import { demoted, highHalf, lowHalf, multiplyAdd } from '../simd'

/** Activations in four lanes of float32, precise as `ForwardKernels.activate` says. NaN and infinity go through. */
const SILU: i32 = 0
const GELU: i32 = 1
const GELU_TANH: i32 = 2

/** `-2 sqrt(2 / pi)`, and that times 0.044715. */
const TANH_LINEAR: f64 = -1.5957691216057308
const TANH_CUBIC: f64 = -0.07135481627260025
/** Of `r(t) = R1 u + R2 u^2 + ...` */
const R1: f32 = 0.13284226
const R2: f32 = 0.117611885
const R3: f32 = 0.18724796
const R4: f32 = -0.10039336
const R5: f32 = 0.3422679
const R6: f32 = -0.22637838
const R7: f32 = 0.046801757

/** @param kind its place in `elementActivations` of `wasm/elements.ts` */
// @ts-expect-error: decorator
@inline
export function activated(kind: i32, x: v128): v128 {
  if (kind == SILU) return f32x4.div(x, f32x4.add(f32x4.splat(1), exponential(f32x4.neg(x))))
  if (kind == GELU) return gelu(x)
  if (kind == GELU_TANH) return geluTanh(x)
  // 0 x makes NaN of minus infinity
  return f32x4.add(f32x4.max(x, f32x4.splat(0)), f32x4.mul(x, f32x4.splat(0)))
}

/** `cap tanh(x / cap)` for `twice = 2 / cap`, not finite where `x` is not. */
export function softCapped(x: v128, cap: v128, twice: v128): v128 {
  const less = exponentialLess1(f32x4.mul(x, twice))
  const tanh = f32x4.div(less, f32x4.add(less, f32x4.splat(2)))
  return multiplyAdd(cap, tanh, f32x4.mul(x, f32x4.splat(0)))
}

/**
 * `x F(x)` for the normal distribution function F. For negative x it is `exp(-x^2 / 2) r(-x)`, and 1 less that of -x for
 * the others. `r` is a polynomial in `u = 1 / (1 + 0.33 t)` that was fitted on 0 < t < 6.5, where `exp(-t^2 / 2) r(t)` is
 * within 2^-24 of the larger of F(-t) and 2^-10; beyond, it is below 2^-33.
 */
// @ts-expect-error: decorator
@inline
function gelu(x: v128): v128 {
  const one = f32x4.splat(1)
  const t = f32x4.abs(x)
  const u = f32x4.div(one, multiplyAdd(f32x4.splat(0.33), t, one))
  let r = multiplyAdd(f32x4.splat(R7), u, f32x4.splat(R6))
  r = multiplyAdd(r, u, f32x4.splat(R5))
  r = multiplyAdd(r, u, f32x4.splat(R4))
  r = multiplyAdd(r, u, f32x4.splat(R3))
  r = multiplyAdd(r, u, f32x4.splat(R2))
  r = multiplyAdd(r, u, f32x4.splat(R1))
  const tail = f32x4.mul(exponentialOf64(halfSquare(lowHalf(x)), halfSquare(highHalf(x))), f32x4.mul(r, u))
  const isNegative = f32x4.lt(x, f32x4.splat(0))
  return f32x4.mul(x, v128.bitselect(tail, f32x4.sub(one, tail), isNegative))
}

/** `x (1 + tanh(v)) / 2` with `v = sqrt(2 / pi) (x + 0.044715 x^3)`, which is `x / (1 + exp(-2 v))`. */
// @ts-expect-error: decorator
@inline
function geluTanh(x: v128): v128 {
  const power = exponentialOf64(tanhPower(lowHalf(x)), tanhPower(highHalf(x)))
  return f32x4.div(x, f32x4.add(f32x4.splat(1), power))
}

/** `-x^2 / 2` */
// @ts-expect-error: decorator
@inline
function halfSquare(x: v128): v128 {
  return f64x2.mul(f64x2.mul(x, x), f64x2.splat(-0.5))
}

// @ts-expect-error: decorator
@inline
function tanhPower(x: v128): v128 {
  const square = f64x2.mul(x, x)
  return f64x2.mul(x, f64x2.add(f64x2.splat(TANH_LINEAR), f64x2.mul(square, f64x2.splat(TANH_CUBIC))))
}

/** `exp` of two pairs of float64, in float32: what rounding to float32 leaves of them matters where they are large. */
// @ts-expect-error: decorator
@inline
function exponentialOf64(low: v128, high: v128): v128 {
  const first = bounded(low)
  const second = bounded(high)
  const rounded = demoted(first, second)
  const rest = demoted(f64x2.sub(first, lowHalf(rounded)), f64x2.sub(second, highHalf(rounded)))
  return exponentialOfSum(rounded, rest)
}

/** Beyond, `exp` is 0 or not a float32 anyway. */
// @ts-expect-error: decorator
@inline
function bounded(power: v128): v128 {
  return f64x2.max(f64x2.min(power, f64x2.splat(100)), f64x2.splat(-100))
}
