import { aligned, param } from '../job'
import { chosen, mixHigh, mixLow, multiplyAdd } from '../simd'
import { AS_INT8, AS_PIECES, lowIn, stepsIn } from './packed-activations'
import { addBytes, addTotal, CONSTANTS_BYTES, FIFTEEN, writeConstants } from './nibble-bytes'
import {
  blockCodesAt,
  elementsAt,
  field,
  goesDown,
  groupsOf,
  LEVEL_PAIRS,
  ROWS_PER_GROUP,
  SEGMENT_COUNT,
  SLOTS,
  scaleAt,
  segmentAt,
  tileAt,
  tileHeight,
} from './packed-weight'

/**
 * `Y = X W^T` for few rows of X and a weight of pairs with codes of 4 bits, whose activations have slots as
 * `wasm/packed/nibble-slots.ts` says: 16 bytes of codes are 32 pairs, and what is looked up by their low halves, then by
 * their high halves, meets 16 slots as it is. Rows of one row group, which share codebooks, all take 64 columns, then the next
 * 64, so that activations stay in registers. Sums of 64 columns are exact; they are scaled and added up in float32.
 *
 * Parameters as of `multiplyPackedTile`, rows being of one row group; tiles of a row group. Scratch: scales of the row group |
 * of each row: factors of the segments | of each row: those times the steps of a row of X | of each row: a total |
 * constants | codes of the tile, where they go down its rows.
 */
export function multiplyNibblesTile(tile: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const m = param<i32>(4)
  const group = (tile / param<i32>(8)) * field(weight, ROWS_PER_GROUP)
  const first = group + (tile % param<i32>(8)) * param<i32>(7)
  const last = first + tileHeight(weight, first)
  if (first >= last) return
  const room = aligned(<usize>field(weight, SEGMENT_COUNT) << 2) + 16
  const bytes = <usize>(last - first) * room
  const rowFactors = scratch + room
  const factors = rowFactors + bytes
  const totals = factors + bytes
  const end = totals + (<usize>(last - first) << 4)
  writeConstants(end)
  const codes = codesAcross(weight, first, end + CONSTANTS_BYTES)
  writeScales(weight, first, scratch)
  for (let row = first; row < last; row++) {
    writeRowFactors(weight, row, scratch, rowFactors + <usize>(row - first) * room)
  }
  for (let i: usize = 0; i < <usize>m; i++) {
    const x = param<usize>(1) + i * param<usize>(2)
    multiplySteps(weight, rowFactors, room, bytes, stepsIn(x, field(weight, SLOTS)), factors)
    const y = param<usize>(5) + ((i * param<usize>(6) + <usize>first) << 2)
    memory.fill(totals, 0, end - totals)
    addSegments(weight, first, codes, x, factors, room, totals, end)
    for (let at: usize = 0; at < end - totals; at += 16) store<f32>(y + (at >> 2), totalOf(v128.load(totals + at)))
  }
}

/** The codes of a tile, those of 64 columns of each row in 16 bytes. */
function codesAcross(weight: usize, first: i32, scratch: usize): usize {
  const codes = tileAt(weight, first)
  if (!goesDown(weight)) return codes
  const step = <usize>tileHeight(weight, first) << 4
  let to = scratch
  for (let at = codes, end = codes + (<usize>field(weight, SLOTS) << 2); at < end; at += 256, to += step) turnBytes(at, to)
  return scratch
}

/** Turns 16 x 16 bytes: each register of a half is mixed with its fellow of the other half, and so four times. */
function turnBytes(from: usize, to: usize): void {
  const between = to + 256
  for (let i: usize = 0; i < 64; i += 16) mixTwice(from + i, between + (i << 2))
  for (let i: usize = 0; i < 64; i += 16) mixTwice(between + i, to + (i << 2))
}

/** Two of the rounds for four of the registers. */
function mixTwice(from: usize, to: usize): void {
  const a = v128.load(from)
  const b = v128.load(from, 64)
  const c = v128.load(from, 128)
  const d = v128.load(from, 192)
  const acLow = mixLow(a, c)
  const acHigh = mixHigh(a, c)
  const bdLow = mixLow(b, d)
  const bdHigh = mixHigh(b, d)
  v128.store(to, mixLow(acLow, bdLow))
  v128.store(to, mixHigh(acLow, bdLow), 16)
  v128.store(to, mixLow(acHigh, bdHigh), 32)
  v128.store(to, mixHigh(acHigh, bdHigh), 48)
}

export function writeScales(weight: usize, row: i32, scales: usize): void {
  const groups = groupsOf(weight, row)
  const end = segmentAt(weight, field(weight, SEGMENT_COUNT))
  for (let segment = segmentAt(weight, 0); segment < end; segment += 16, scales += 4) {
    store<f32>(scales, scaleAt(weight, groups, segment))
  }
}

/** Scales times levels, where segments are blocks; two blocks have a byte. */
export function writeRowFactors(weight: usize, row: i32, scales: usize, factors: usize): void {
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

/** Factors of rows, `room` bytes apart, times the steps of a row of X. */
function multiplySteps(weight: usize, rowFactors: usize, room: usize, bytes: usize, steps: usize, factors: usize): void {
  const width = <usize>field(weight, SEGMENT_COUNT) << 2
  for (let at: usize = 0; at < bytes; at += room) {
    for (let i: usize = 0; i < width; i += 16) {
      v128.store(factors + at + i, f32x4.mul(v128.load(rowFactors + at + i), v128.load(steps + i)))
    }
  }
}

/** Adds a row of X times the rows from `row` on to their totals, of which the last ends at `end`. */
function addSegments(
  weight: usize,
  row: i32,
  codes: usize,
  x: usize,
  factors: usize,
  room: usize,
  totals: usize,
  end: usize,
): void {
  const kind = param<i32>(3)
  const elements = elementsAt(weight, groupsOf(weight, row))
  const slots = load<usize>(weight, SLOTS)
  const low = lowIn(0, <i32>slots)
  const last = segmentAt(weight, field(weight, SEGMENT_COUNT))
  for (let segment = segmentAt(weight, 0); segment < last; segment += 16, factors += 4) {
    const table = elements + (load<usize>(segment, 8) << 5)
    const next = segment + 16 < last ? load<usize>(segment, 16) : slots
    for (let slot = load<usize>(segment); slot < next; slot += 64, x += 128, codes += end - totals) {
      if (kind == AS_PIECES) addPieces(codes, table, x, low, factors, room, totals, end)
      else if (ASC_FEATURE_RELAXED_SIMD && kind == AS_INT8) addBytes(codes, table, x, low, factors, room, totals, end)
      else addWhole(codes, table, x, factors, room, totals, end)
    }
  }
}

// @ts-expect-error: decorator
@inline
function totalOf(sums: v128): f32 {
  const low = f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)
  return low + (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3))
}

/** Sixteen elements times as many pieces. */
// @ts-expect-error: decorator
@inline
function dot(elements: v128, low: v128, high: v128): v128 {
  const sums = i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(elements), low)
  return i32x4.add(sums, i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(elements), high))
}

/**
 * Adds products of 64 columns to totals; one piece of 16 bits.
 *
 * @param codes 16 bytes of each row
 * @param table codebook
 * @param factors that of the first row, the others follow `room` bytes apart
 */
function addWhole(
  codes: usize,
  table: usize,
  x: usize,
  factors: usize,
  room: usize,
  totals: usize,
  end: usize,
): void {
  const firsts = v128.load(table)
  const seconds = v128.load(table, 16)
  const fifteen = v128.load(end, FIFTEEN)
  const x0 = v128.load(x)
  const x1 = v128.load(x, 16)
  const x2 = v128.load(x, 32)
  const x3 = v128.load(x, 48)
  const x4 = v128.load(x, 64)
  const x5 = v128.load(x, 80)
  const x6 = v128.load(x, 96)
  const x7 = v128.load(x, 112)
  for (; totals < end; codes += 16, factors += room, totals += 16) {
    const pairs = v128.load(codes)
    const low = v128.and(pairs, fifteen)
    const high = v128.and(i16x8.shr_u(pairs, 4), fifteen)
    let sums = i32x4.add(dot(chosen(firsts, low), x0, x1), dot(chosen(seconds, low), x2, x3))
    sums = i32x4.add(sums, dot(chosen(firsts, high), x4, x5))
    addTotal(totals, factors, i32x4.add(sums, dot(chosen(seconds, high), x6, x7)))
  }
}

/** Two pieces, the low ones `apart` bytes behind. */
function addPieces(
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
  const lows = x + apart
  for (; totals < end; codes += 16, factors += room, totals += 16) {
    const pairs = v128.load(codes)
    let halves = v128.and(pairs, fifteen)
    let own = chosen(firsts, halves)
    let high = dot(own, v128.load(x), v128.load(x, 16))
    let low = dot(own, v128.load(lows), v128.load(lows, 16))
    own = chosen(seconds, halves)
    high = i32x4.add(high, dot(own, v128.load(x, 32), v128.load(x, 48)))
    low = i32x4.add(low, dot(own, v128.load(lows, 32), v128.load(lows, 48)))
    halves = v128.and(i16x8.shr_u(pairs, 4), fifteen)
    own = chosen(firsts, halves)
    high = i32x4.add(high, dot(own, v128.load(x, 64), v128.load(x, 80)))
    low = i32x4.add(low, dot(own, v128.load(lows, 64), v128.load(lows, 80)))
    own = chosen(seconds, halves)
    high = i32x4.add(high, dot(own, v128.load(x, 96), v128.load(x, 112)))
    low = i32x4.add(low, dot(own, v128.load(lows, 96), v128.load(lows, 112)))
    const sum = multiplyAdd(f32x4.splat(32768), f32x4.convert_i32x4_s(high), f32x4.convert_i32x4_s(low))
    v128.store(totals, multiplyAdd(v128.load32_splat(factors), sum, v128.load(totals)))
  }
}
