import { param } from '../job'
import { demoted, highHalf, loadUpTo, lowHalf, storeUpTo } from '../simd'

/** Norms and rotary turns: see `ForwardKernels`. */

/**
 * Parameters: addresses of x, scale, shift (0: none) and y; runs, values of a run, runs of a tile, runs of the scale;
 * whether the mean is subtracted; epsilon.
 */
export function normalizeTile(tile: i32): void {
  const runs = param<i32>(4)
  const perTile = param<i32>(6)
  const scaleRuns = param<i32>(7)
  const bytes = <usize>param<i32>(5) << 2
  const first = tile * perTile
  const last = min(first + perTile, runs)
  for (let run = first; run < last; run++) {
    const offset = <usize>run * bytes
    const own = <usize>(run % scaleRuns) * bytes
    const shift = param<usize>(2)
    normalizeRun(
      param<usize>(0) + offset,
      param<usize>(1) + own,
      shift == 0 ? 0 : shift + own,
      param<usize>(3) + offset,
      bytes,
    )
  }
}

function normalizeRun(x: usize, scale: usize, shift: usize, y: usize, bytes: usize): void {
  const size = <f64>(bytes >> 2)
  const isCentred = param<i32>(8) != 0
  const mean = isCentred ? sumOf(x, bytes) / size : 0
  const factor = 1 / Math.sqrt(squaresOf(x, bytes, mean) / size + param<f64>(9))
  if (isCentred || shift != 0) moveRun(x, mean, factor, scale, shift, y, bytes)
  else scaleRun(x, <f32>factor, scale, y, bytes)
}

/** `y = x factor scale` */
function scaleRun(x: usize, factor: f32, scale: usize, y: usize, bytes: usize): void {
  const factors = f32x4.splat(factor)
  const whole = bytes & ~15
  for (let at: usize = 0; at < whole; at += 16) {
    v128.store(y + at, f32x4.mul(f32x4.mul(v128.load(x + at), factors), v128.load(scale + at)))
  }
  for (let at = whole; at < bytes; at += 4) {
    store<f32>(y + at, load<f32>(x + at) * factor * load<f32>(scale + at))
  }
}

/** `y = (x - mean) factor scale + shift` in float64: of a mean far from 0, or a shift that cancels, float32 leaves little. */
function moveRun(x: usize, mean: f64, factor: f64, scale: usize, shift: usize, y: usize, bytes: usize): void {
  const means = f64x2.splat(mean)
  const factors = f64x2.splat(factor)
  for (let at: usize = 0; at < bytes; at += 16) {
    const values = loadUpTo(x + at, x + bytes)
    const scales = loadUpTo(scale + at, scale + bytes)
    const shifts = shift == 0 ? f32x4.splat(0) : loadUpTo(shift + at, shift + bytes)
    const low = f64x2.mul(f64x2.mul(f64x2.sub(lowHalf(values), means), factors), lowHalf(scales))
    const high = f64x2.mul(f64x2.mul(f64x2.sub(highHalf(values), means), factors), highHalf(scales))
    storeUpTo(y + at, y + bytes, demoted(f64x2.add(low, lowHalf(shifts)), f64x2.add(high, highHalf(shifts))))
  }
}

function sumOf(x: usize, bytes: usize): f64 {
  let even = f64x2.splat(0)
  let odd = f64x2.splat(0)
  for (let at: usize = 0; at < bytes; at += 16) {
    const values = loadUpTo(x + at, x + bytes)
    even = f64x2.add(even, lowHalf(values))
    odd = f64x2.add(odd, highHalf(values))
  }
  const sums = f64x2.add(even, odd)
  return f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1)
}

/** `sum((x - mean)^2)` */
function squaresOf(x: usize, bytes: usize, mean: f64): f64 {
  const means = f64x2.splat(mean)
  let even = f64x2.splat(0)
  let odd = f64x2.splat(0)
  const whole = bytes & ~15
  for (let at: usize = 0; at < whole; at += 16) {
    // two loads take less than one and a shuffle
    const low = f64x2.sub(lowHalf(v128.load64_zero(x + at)), means)
    const high = f64x2.sub(lowHalf(v128.load64_zero(x + at, 8)), means)
    even = f64x2.add(even, f64x2.mul(low, low))
    odd = f64x2.add(odd, f64x2.mul(high, high))
  }
  const sums = f64x2.add(even, odd)
  let sum = f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1)
  for (let at = whole; at < bytes; at += 4) {
    const value = <f64>load<f32>(x + at) - mean
    sum += value * value
  }
  return sum
}

/**
 * Parameters: addresses of x and y, cosines and sines from the first position on; tokens, tokens of a sequence, heads,
 * dimensions of a head, dimensions that turn, tokens of a tile.
 */
export function rotateTile(tile: i32): void {
  const length = param<i32>(5)
  const heads = param<i32>(6)
  const headBytes = <usize>param<i32>(7) << 2
  const dims = <usize>param<i32>(8) << 2
  const perTile = param<i32>(9)
  const first = tile * perTile
  const last = min(first + perTile, param<i32>(4))
  let offset = <usize>(first * heads) * headBytes
  for (let token = first; token < last; token++) {
    const angles = <usize>(token % length) * dims
    for (let head = 0; head < heads; head++) {
      const from = param<usize>(0) + offset
      const to = param<usize>(1) + offset
      rotateHead(from, to, param<usize>(2) + angles, param<usize>(3) + angles, dims >> 1)
      if (from != to) memory.copy(to + dims, from + dims, headBytes - dims)
      offset += headBytes
    }
  }
}

/** Turns the pairs of one head, whose first and second values lie `half` bytes apart. */
// @ts-expect-error: decorator
@inline
function rotateHead(x: usize, y: usize, cos: usize, sin: usize, half: usize): void {
  for (let at: usize = 0; at < half; at += 16) {
    const low = loadUpTo(x + at, x + half)
    const high = loadUpTo(x + half + at, x + 2 * half)
    const c = loadUpTo(cos + at, cos + half)
    const s = loadUpTo(sin + at, sin + half)
    storeUpTo(y + at, y + half, f32x4.sub(f32x4.mul(low, c), f32x4.mul(high, s)))
    storeUpTo(y + half + at, y + 2 * half, f32x4.add(f32x4.mul(high, c), f32x4.mul(low, s)))
  }
}
