import { exponential64 } from './exponential'
import { param } from '../job'

/** Predictions over a vocabulary, in float64: see `ForwardKernels`. */

/** Parameters: addresses of logits, sums (f64) and tops (i32); rows, columns, rows of a tile. */
export function predictTile(tile: i32): void {
  const cols = param<i32>(4)
  const first = tile * param<i32>(5)
  const last = min(first + param<i32>(5), param<i32>(3))
  for (let row = first; row < last; row++) {
    const logits = param<usize>(0) + <usize>row * (<usize>cols << 2)
    const top = topOf(logits, cols)
    store<i32>(param<usize>(2) + (<usize>row << 2), top)
    const sum = top < 0 ? NaN : sumOfShares(logits, cols, load<f32>(logits + (<usize>top << 2)))
    store<f64>(param<usize>(1) + (<usize>row << 3), sum)
  }
}

/** The first of the largest; -1 where one is not finite. */
function topOf(logits: usize, cols: i32): i32 {
  const end = logits + (<usize>cols << 2)
  const whole = end - (<usize>(cols & 3) << 2)
  let largest4 = f32x4.splat(-Infinity)
  // stays 0 as long as all are finite
  let zero4 = f32x4.splat(0)
  let at = logits
  for (; at < whole; at += 16) {
    const x = v128.load(at)
    largest4 = f32x4.max(largest4, x)
    zero4 = f32x4.add(zero4, f32x4.mul(x, f32x4.splat(0)))
  }
  let zero: f32 = f32x4.extract_lane(zero4, 0) + f32x4.extract_lane(zero4, 1) + f32x4.extract_lane(zero4, 2)
  zero += f32x4.extract_lane(zero4, 3)
  let largest = max(f32x4.extract_lane(largest4, 0), f32x4.extract_lane(largest4, 1))
  largest = max(largest, max(f32x4.extract_lane(largest4, 2), f32x4.extract_lane(largest4, 3)))
  for (; at < end; at += 4) {
    const x = load<f32>(at)
    largest = max(largest, x)
    zero += x * 0
  }
  if (zero != 0) return -1
  at = logits
  while (load<f32>(at) != largest) at += 4
  return <i32>((at - logits) >> 2)
}

/** `sum(exp(logit - largest))`. */
function sumOfShares(logits: usize, cols: i32, largest: f32): f64 {
  const end = logits + (<usize>cols << 2)
  const shift = f64x2.splat(<f64>largest)
  let sum = f64x2.splat(0)
  for (let at = logits; at < end; at += 8) {
    const share = exponential64(f64x2.sub(two(at, end), shift))
    sum = f64x2.add(sum, share)
  }
  return f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1)
}

/** Two values; minus infinity for one that is not there. */
// @ts-expect-error: decorator
@inline
function two(at: usize, end: usize): v128 {
  if (at + 4 < end) return f64x2.promote_low_f32x4(v128.load64_zero(at))
  return f64x2.replace_lane(f64x2.splat(-Infinity), 0, <f64>load<f32>(at))
}

/** Parameters: addresses of expected and actual logits, the expected log sums (f64) and the gaps (f64); rows, columns, rows of a tile. */
export function compareTile(tile: i32): void {
  const cols = param<i32>(5)
  const first = tile * param<i32>(6)
  const last = min(first + param<i32>(6), param<i32>(4))
  for (let row = first; row < last; row++) {
    const offset = <usize>row * (<usize>cols << 2)
    const logSum = load<f64>(param<usize>(2) + (<usize>row << 3))
    const gap = weightedGap(param<usize>(0) + offset, param<usize>(1) + offset, cols, logSum)
    store<f64>(param<usize>(3) + (<usize>row << 3), gap)
  }
}

/** Parameters: addresses of shares, logits and sums (f64); rows, columns, rows of a tile. */
export function weighTile(tile: i32): void {
  const cols = param<i32>(4)
  const first = tile * param<i32>(5)
  const last = min(first + param<i32>(5), param<i32>(3))
  for (let row = first; row < last; row++) {
    const offset = <usize>row * (<usize>cols << 2)
    const sum = weightedSum(param<usize>(0) + offset, param<usize>(1) + offset, cols)
    store<f64>(param<usize>(2) + (<usize>row << 3), sum)
  }
}

/** `sum(share * logit)` */
function weightedSum(shares: usize, logits: usize, cols: i32): f64 {
  const even = <usize>(cols & ~1) << 2
  let sum2 = f64x2.splat(0)
  for (let at: usize = 0; at < even; at += 8) {
    const share = f64x2.promote_low_f32x4(v128.load64_zero(shares + at))
    const logit = f64x2.promote_low_f32x4(v128.load64_zero(logits + at))
    sum2 = f64x2.add(sum2, f64x2.mul(share, logit))
  }
  const sum = f64x2.extract_lane(sum2, 0) + f64x2.extract_lane(sum2, 1)
  return cols & 1 ? sum + <f64>load<f32>(shares + even) * <f64>load<f32>(logits + even) : sum
}

/** `sum(p (expected - actual))`, `p = exp(expected - logSum)`. */
function weightedGap(expected: usize, actual: usize, cols: i32, logSum: f64): f64 {
  const even = <usize>(cols & ~1) << 2
  const shift = f64x2.splat(logSum)
  let sum = f64x2.splat(0)
  for (let at: usize = 0; at < even; at += 8) {
    const x = f64x2.promote_low_f32x4(v128.load64_zero(expected + at))
    const y = f64x2.promote_low_f32x4(v128.load64_zero(actual + at))
    sum = f64x2.add(sum, f64x2.mul(exponential64(f64x2.sub(x, shift)), f64x2.sub(x, y)))
  }
  let gap = f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1)
  if (cols & 1) {
    const x = <f64>load<f32>(expected + even)
    const share = f64x2.extract_lane(exponential64(f64x2.splat(x - logSum)), 0)
    gap += share * (x - <f64>load<f32>(actual + even))
  }
  return gap
}
