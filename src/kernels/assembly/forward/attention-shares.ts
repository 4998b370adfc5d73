import { softCapped } from './activation'
import { exponentialUpTo88 } from './exponential'
import { param } from '../job'
import { loadUpTo, storeUpTo } from '../simd'

/**
 * Scores of attention become the shares that the values have in the output, in place: see `ForwardKernels`. For products that
 * are done elsewhere.
 *
 * Parameters: address of the scores; rows, keys, queries of a head, place of the first query among the keys, window, rows
 * of a tile; the cap of scores (0: none).
 */
export function shareAttentionTile(tile: i32): void {
  const keys = param<i32>(2)
  const queries = param<i32>(3)
  const perTile = param<i32>(6)
  const first = tile * perTile
  const last = min(first + perTile, param<i32>(1))
  for (let row = first; row < last; row++) {
    const own = param<i32>(4) + (row % queries)
    const scores = param<usize>(0) + ((<usize>row * keys) << 2)
    const from = scores + (<usize>max(0, own - param<i32>(5) + 1) << 2)
    const to = scores + (<usize>(own + 1) << 2)
    const end = scores + (<usize>keys << 2)
    memory.fill(scores, 0, from - scores)
    shareRow(from, to, param<f32>(7))
    memory.fill(to, 0, end - to)
  }
}

function shareRow(from: usize, to: usize, cap: f32): void {
  if (cap != 0) capRow(from, to, cap)
  const shift = f32x4.splat(largestOf(from, to))
  const whole = to - ((to - from) & 15)
  let sums = f32x4.splat(0)
  for (let at = from; at < whole; at += 16) {
    const weights = exponentialUpTo88(f32x4.sub(v128.load(at), shift))
    v128.store(at, weights)
    sums = f32x4.add(sums, weights)
  }
  let sum: f32 = f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)
  sum += f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3)
  for (let at = whole; at < to; at += 4) {
    const weight = f32x4.extract_lane(exponentialUpTo88(f32x4.sub(v128.load32_splat(at), shift)), 0)
    store<f32>(at, weight)
    sum += weight
  }
  const factor = f32x4.splat(1 / sum)
  for (let at = from; at < whole; at += 16) v128.store(at, f32x4.mul(factor, v128.load(at)))
  if (whole < to) storeUpTo(whole, to, f32x4.mul(factor, loadUpTo(whole, to)))
}

function capRow(from: usize, to: usize, cap: f32): void {
  const caps = f32x4.splat(cap)
  const twice = f32x4.splat(2 / cap)
  for (let at = from; at < to; at += 16) storeUpTo(at, to, softCapped(loadUpTo(at, to), caps, twice))
}

/** NaN where one is NaN. */
function largestOf(from: usize, to: usize): f32 {
  const whole = to - ((to - from) & 15)
  let most4 = f32x4.splat(-Infinity)
  for (let at = from; at < whole; at += 16) most4 = f32x4.max(most4, v128.load(at))
  let most = max(f32x4.extract_lane(most4, 0), f32x4.extract_lane(most4, 1))
  most = max(most, max(f32x4.extract_lane(most4, 2), f32x4.extract_lane(most4, 3)))
  for (let at = whole; at < to; at += 4) most = max(most, load<f32>(at))
  return most
}
