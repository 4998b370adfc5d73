import { aligned, param } from '../job'
import { chosen, multiplyAdd } from '../simd'
import { AS_PIECES, lowIn, stepsIn } from './packed-activations'
import {
  blockCodesAt,
  codesAt,
  elementsAt,
  field,
  groupsOf,
  LEVEL_PAIRS,
  ROWS,
  ROWS_PER_GROUP,
  SEGMENT_COUNT,
  SLOTS,
  scaleAt,
  segmentAt,
} from './packed-weight'

/**
 * `Y = X W^T` for few rows of X and a weight of pairs with codes of 4 bits, whose activations have slots as
 * `wasm/packed/nibble-slots.ts` says: 16 bytes of codes are 32 pairs, and what is looked up by their low halves, then by
 * their high halves, meets 16 slots as it is. Sums within a segment are exact; they are scaled and added up in float32.
 *
 * Parameters as of `multiplyPackedTile`. Scratch, floats of each segment: scales of a row group | those of a row | with the
 * steps of a row of X.
 */
export function multiplyNibblesTile(tile: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const bytes = param<usize>(2)
  const isPieces = param<i32>(3) == AS_PIECES
  const m = param<i32>(4)
  const stride = param<usize>(6) << 2
  const first = tile * param<i32>(7)
  const last = min(first + param<i32>(7), field(weight, ROWS))
  const slots = field(weight, SLOTS)
  const room = aligned(<usize>field(weight, SEGMENT_COUNT) << 2) + 16
  const rowFactors = scratch + room
  const factors = rowFactors + room
  for (let row = first; row < last; row++) {
    if (row == first || row % field(weight, ROWS_PER_GROUP) == 0) writeScales(weight, row, scratch)
    writeRowFactors(weight, row, scratch, rowFactors)
    let y = param<usize>(5) + (<usize>row << 2)
    let x = param<usize>(1)
    for (let i = 0; i < m; i++, x += bytes, y += stride) {
      multiplySteps(weight, rowFactors, stepsIn(x, slots), factors)
      if (isPieces) store<f32>(y, multiplyPieces(weight, row, x, lowIn(0, slots), factors))
      else store<f32>(y, multiplyWhole(weight, row, x, factors))
    }
  }
}

function writeScales(weight: usize, row: i32, scales: usize): void {
  const groups = groupsOf(weight, row)
  const end = segmentAt(weight, field(weight, SEGMENT_COUNT))
  for (let segment = segmentAt(weight, 0); segment < end; segment += 16, scales += 4) {
    store<f32>(scales, scaleAt(weight, groups, segment))
  }
}

/** Scales times levels, where segments are blocks; two blocks have a byte. */
function writeRowFactors(weight: usize, row: i32, scales: usize, factors: usize): void {
  const count = field(weight, SEGMENT_COUNT)
  const pairs = load<usize>(weight, LEVEL_PAIRS)
  if (pairs == 0) {
    memory.copy(factors, scales, <usize>count << 2)
    return
  }
  let codes = blockCodesAt(weight, row)
  for (let at: usize = 0; at < <usize>count << 2; at += 16, codes += 2) {
    const two = v128.load64_zero(pairs + (<usize>load<u8>(codes) << 3))
    const four = v128.load_lane<u64>(pairs + (<usize>load<u8>(codes, 1) << 3), two, 1)
    v128.store(factors + at, f32x4.mul(v128.load(scales + at), four))
  }
}

function multiplySteps(weight: usize, factors: usize, steps: usize, to: usize): void {
  const bytes = <usize>field(weight, SEGMENT_COUNT) << 2
  for (let at: usize = 0; at < bytes; at += 16) {
    v128.store(to + at, f32x4.mul(v128.load(factors + at), v128.load(steps + at)))
  }
}

// @ts-expect-error: decorator
@inline
function totalOf(sums: v128): f32 {
  const low = f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)
  return low + (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3))
}

/** Eight elements times eight pieces, added in pairs. */
// @ts-expect-error: decorator
@inline
function lowDot(elements: v128, x: usize): v128 {
  return i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(elements), v128.load(x))
}

// @ts-expect-error: decorator
@inline
function highDot(elements: v128, x: usize): v128 {
  return i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(elements), v128.load(x, 16))
}

/** One piece. */
function multiplyWhole(weight: usize, row: i32, x: usize, factors: usize): f32 {
  const codes = codesAt(weight, row, 0)
  const elements = elementsAt(weight, groupsOf(weight, row))
  const last = segmentAt(weight, field(weight, SEGMENT_COUNT))
  let total = f32x4.splat(0)
  for (let segment = segmentAt(weight, 0); segment < last; segment += 16, factors += 4) {
    const table = elements + (load<usize>(segment, 8) << 5)
    const firsts = v128.load(table)
    const seconds = v128.load(table, 16)
    const end = codes + ((load<usize>(segment, 4) + 3) >> 2)
    let sums = i32x4.splat(0)
    let others = i32x4.splat(0)
    for (let at = codes + (load<usize>(segment) >> 2); at < end; at += 16, x += 128) {
      const pairs = v128.load(at)
      const low = v128.and(pairs, i8x16.splat(15))
      let own = chosen(firsts, low)
      sums = i32x4.add(sums, lowDot(own, x))
      others = i32x4.add(others, highDot(own, x))
      own = chosen(seconds, low)
      sums = i32x4.add(sums, lowDot(own, x + 32))
      others = i32x4.add(others, highDot(own, x + 32))
      const high = v128.and(i16x8.shr_u(pairs, 4), i8x16.splat(15))
      own = chosen(firsts, high)
      sums = i32x4.add(sums, lowDot(own, x + 64))
      others = i32x4.add(others, highDot(own, x + 64))
      own = chosen(seconds, high)
      sums = i32x4.add(sums, lowDot(own, x + 96))
      others = i32x4.add(others, highDot(own, x + 96))
    }
    sums = i32x4.add(sums, others)
    total = multiplyAdd(v128.load32_splat(factors), f32x4.convert_i32x4_s(sums), total)
  }
  return totalOf(total)
}

/** Two pieces, the low ones `apart` bytes behind. */
function multiplyPieces(weight: usize, row: i32, x: usize, apart: usize, factors: usize): f32 {
  const codes = codesAt(weight, row, 0)
  const elements = elementsAt(weight, groupsOf(weight, row))
  const last = segmentAt(weight, field(weight, SEGMENT_COUNT))
  let total = f32x4.splat(0)
  for (let segment = segmentAt(weight, 0); segment < last; segment += 16, factors += 4) {
    const table = elements + (load<usize>(segment, 8) << 5)
    const firsts = v128.load(table)
    const seconds = v128.load(table, 16)
    const end = codes + ((load<usize>(segment, 4) + 3) >> 2)
    let high = i32x4.splat(0)
    let low = i32x4.splat(0)
    for (let at = codes + (load<usize>(segment) >> 2); at < end; at += 16, x += 128) {
      const lows = x + apart
      const pairs = v128.load(at)
      let halves = v128.and(pairs, i8x16.splat(15))
      let own = chosen(firsts, halves)
      high = i32x4.add(high, lowDot(own, x))
      low = i32x4.add(low, lowDot(own, lows))
      high = i32x4.add(high, highDot(own, x))
      low = i32x4.add(low, highDot(own, lows))
      own = chosen(seconds, halves)
      high = i32x4.add(high, lowDot(own, x + 32))
      low = i32x4.add(low, lowDot(own, lows + 32))
      high = i32x4.add(high, highDot(own, x + 32))
      low = i32x4.add(low, highDot(own, lows + 32))
      halves = v128.and(i16x8.shr_u(pairs, 4), i8x16.splat(15))
      own = chosen(firsts, halves)
      high = i32x4.add(high, lowDot(own, x + 64))
      low = i32x4.add(low, lowDot(own, lows + 64))
      high = i32x4.add(high, highDot(own, x + 64))
      low = i32x4.add(low, highDot(own, lows + 64))
      own = chosen(seconds, halves)
      high = i32x4.add(high, lowDot(own, x + 96))
      low = i32x4.add(low, lowDot(own, lows + 96))
      high = i32x4.add(high, highDot(own, x + 96))
      low = i32x4.add(low, highDot(own, lows + 96))
    }
    const sums = multiplyAdd(f32x4.splat(32768), f32x4.convert_i32x4_s(high), f32x4.convert_i32x4_s(low))
    total = multiplyAdd(v128.load32_splat(factors), sums, total)
  }
  return totalOf(total)
}
