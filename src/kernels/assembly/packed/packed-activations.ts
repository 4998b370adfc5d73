import { aligned, param } from '../job'
import { loadUpTo } from '../simd'
import { splitBytes } from './nibble-bytes'
import {
  COLS,
  FACTORS,
  field,
  goesDown,
  hasNibbles,
  ORDER,
  PERMUTATION,
  SEGMENT_COUNT,
  SLOTS,
  slotsOf,
} from './packed-weight'

/**
 * Activations as products with packed weights read them, a row of X after the other: whole multiples of a step of each
 * segment. A multiple of up to 16 bits is one piece; of 30 bits it is two, `2^15 high + low`.
 *
 * A row: high pieces | low pieces (16 bits each) | steps | sums of the high pieces of each segment | of the low ones. Or the
 * float32 values alone, where the elements of the weight are floats.
 */
export const AS_FLOATS: i32 = 0
export const AS_INT8: i32 = 1
const AS_INT16: i32 = 2
export const AS_PIECES: i32 = 3
/** One piece of 14 bits. */
const AS_TABLES: i32 = 4

/** What is smaller counts as 0: its reciprocal is no float32. */
const TINY: f32 = 7.888609052210118e-31

// @ts-expect-error: decorator
@inline
export function lowIn(row: usize, slots: i32): usize {
  return row + aligned(<usize>(2 * slots + 32))
}

// @ts-expect-error: decorator
@inline
export function stepsIn(row: usize, slots: i32): usize {
  return row + 2 * aligned(<usize>(2 * slots + 32))
}

/** Parameters: the weight, where rows go, bytes of a row there, kind, address and stride of X. A tile is a row. */
export function roundActivationsTile(tile: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const to = param<usize>(1) + <usize>tile * param<usize>(2)
  const kind = param<i32>(3)
  const x = param<usize>(4) + ((<usize>tile * param<usize>(5)) << 2)
  if (kind == AS_FLOATS) {
    orderRow(load<usize>(weight, PERMUTATION), x, field(weight, COLS), to)
    return
  }
  roundRow(weight, kind, x, to, scratch)
  const slots = field(weight, SLOTS)
  const isSplit = kind == AS_INT8 && hasNibbles(weight) && !goesDown(weight)
  if (ASC_FEATURE_RELAXED_SIMD && isSplit) splitBytes(to, lowIn(to, slots), slots)
}

/** `scratch` has room for the slots of a row in float32, where they are not columns. */
export function roundRow(weight: usize, kind: i32, x: usize, to: usize, scratch: usize): void {
  const slots = field(weight, SLOTS)
  const segments = field(weight, SEGMENT_COUNT)
  if (field(weight, ORDER) != 0) {
    orderRow(load<usize>(weight, ORDER), x, slots, scratch)
    if (field(weight, FACTORS) != 0) multiplyByFactors(weight, scratch, slots)
    x = scratch
  }
  const low = lowIn(to, slots)
  let step = stepsIn(to, slots)
  for (let i = 0; i < segments; i++) {
    const ends = slotsOf(weight, i)
    const start = <usize>load<i32>(ends)
    const count = load<i32>(ends, 4) - load<i32>(ends)
    const sums = step + (<usize>segments << 2)
    roundSegment(kind, x + (start << 2), count, to + (start << 1), low + (start << 1), step, sums, sums + (<usize>segments << 2))
    step += 4
  }
}

/** A row of X in another order; a place without a column is 0. */
function orderRow(order: usize, x: usize, count: i32, to: usize): void {
  if (order == 0) {
    memory.copy(to, x, <usize>count << 2)
    return
  }
  for (let at: usize = 0; at < <usize>count << 2; at += 4) {
    const column = load<i32>(order + at)
    store<f32>(to + at, column < 0 ? 0 : load<f32>(x + (<usize>column << 2)))
  }
}

/** What a trellis multiplies the weights of a column by goes to the other operand. */
function multiplyByFactors(weight: usize, x: usize, slots: i32): void {
  const factors = load<usize>(weight, FACTORS)
  for (let at: usize = 0; at < <usize>slots << 2; at += 4) {
    store<f32>(x + at, load<f32>(x + at) * load<f32>(factors + at))
  }
}

function roundSegment(
  kind: i32,
  x: usize,
  count: i32,
  high: usize,
  low: usize,
  step: usize,
  highSum: usize,
  lowSum: usize,
): void {
  const largest = largestOf(x, count)
  let perUnit: f32 = 0
  let unit: f32 = 0
  if (!(largest <= f32.MAX_VALUE)) unit = f32.NaN
  else if (largest >= TINY) {
    if (kind == AS_PIECES) {
      // 2^29 units and less
      const exponent = <i32>(reinterpret<u32>(largest) >> 23) - 126
      perUnit = powerOf2(29 - exponent)
      unit = powerOf2(exponent - 29)
    } else {
      const most: f32 = kind == AS_INT8 ? 127 : kind == AS_TABLES ? 16383 : 32767
      perUnit = most / largest
      unit = largest / most
    }
  }
  store<f32>(step, unit)
  let sums = i32x4.splat(0)
  let rests = i32x4.splat(0)
  const isPieces = kind == AS_PIECES
  const end = x + (<usize>count << 2)
  for (; x < end; x += 16, high += 8, low += 8) {
    const values = f32x4.mul(loadUpTo(x, end), f32x4.splat(perUnit))
    const units = i32x4.trunc_sat_f32x4_s(f32x4.nearest(values))
    const pieces = isPieces ? i32x4.shr_s(i32x4.add(units, i32x4.splat(16384)), 15) : units
    const less = i32x4.sub(units, i32x4.shl(pieces, 15))
    sums = i32x4.add(sums, pieces)
    storeFour(high, i16x8.narrow_i32x4_s(pieces, pieces), end - x)
    if (isPieces) {
      rests = i32x4.add(rests, less)
      storeFour(low, i16x8.narrow_i32x4_s(less, less), end - x)
    }
  }
  store<i32>(highSum, sumOf(sums))
  store<i32>(lowSum, sumOf(rests))
}

/** Four numbers of 16 bits, or as many as `bytes` of floats there are: what lies behind is another segment's. */
// @ts-expect-error: decorator
@inline
function storeFour(at: usize, pieces: v128, bytes: usize): void {
  if (bytes >= 16) v128.store_lane<u64>(at, pieces, 0)
  else {
    v128.store_lane<u16>(at, pieces, 0)
    if (bytes > 4) v128.store_lane<u16>(at, pieces, 1, 2)
    if (bytes > 8) v128.store_lane<u16>(at, pieces, 2, 4)
  }
}

// @ts-expect-error: decorator
@inline
function sumOf(sums: v128): i32 {
  const low = i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1)
  return low + (i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3))
}

/** Infinity or NaN where a value is. */
function largestOf(x: usize, count: i32): f32 {
  let largest = f32x4.splat(0)
  const end = x + (<usize>count << 2)
  for (; x < end; x += 16) largest = f32x4.max(largest, f32x4.abs(loadUpTo(x, end)))
  const low = max<f32>(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1))
  return max<f32>(low, max<f32>(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)))
}

// @ts-expect-error: decorator
@inline
function powerOf2(exponent: i32): f32 {
  return reinterpret<f32>((exponent + 127) << 23)
}
