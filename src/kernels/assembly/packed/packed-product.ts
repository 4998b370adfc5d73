import { aligned, param } from '../job'
import { AS_FLOATS, AS_PIECES, lowIn, stepsIn } from './packed-activations'
import { decodeRow, elementsIn } from './packed-decode'
import {
  blockCodesAt,
  COLS,
  field,
  GRID,
  groupsOf,
  KIND,
  levelOf,
  levelsAt,
  ROWS,
  SEGMENT_COUNT,
  scaleAt,
  scalesAt,
  segmentAt,
  VECTOR_DIM,
  zeroAt,
} from './packed-weight'
import { multiplyAdd } from '../simd'

/**
 * `Y = X W^T` for few rows of X: a row of W is decoded to its elements, then multiplied with each row of X. Sums within a
 * segment are exact; they are scaled and added up in float32.
 *
 * Parameters: the weight; where rows of X are, bytes of one, their kind, how many; address and stride of Y; rows of W of a
 * tile. Scratch: factors of the segments | their zeros | what decoding needs.
 */
export function multiplyPackedTile(tile: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const x = param<usize>(1)
  const rowBytes = param<usize>(2)
  const kind = param<i32>(3)
  const m = param<i32>(4)
  const y = param<usize>(5)
  const stride = param<usize>(6) << 2
  const first = tile * param<i32>(7)
  const last = min(first + param<i32>(7), field(weight, ROWS))
  const d = field(weight, VECTOR_DIM)
  const vectors = (field(weight, COLS) + d - 1) / d
  const room = aligned(<usize>field(weight, SEGMENT_COUNT) << 2)
  const decoding = scratch + 2 * room
  const elements = elementsIn(decoding, vectors)
  for (let row = first; row < last; row++) {
    writeFactors(weight, row, scratch, scratch + room)
    decodeRow(weight, row, 0, vectors, decoding)
    for (let i: usize = 0; i < <usize>m; i++) {
      const own = x + i * rowBytes
      let sum: f32 = 0
      if (kind == AS_FLOATS) sum = multiplyFloats(weight, own, elements, scratch)
      else if (kind == AS_PIECES) sum = multiplyPieces(weight, own, elements, scratch, scratch + room)
      else sum = multiplyWhole(weight, own, elements, scratch, scratch + room)
      store<f32>(y + i * stride + (<usize>row << 2), sum)
    }
  }
}

function writeFactors(weight: usize, row: i32, factors: usize, zeros: usize): void {
  const count = field(weight, SEGMENT_COUNT)
  const groups = groupsOf(weight, row)
  const end = segmentAt(weight, count)
  if (field(weight, KIND) == GRID) {
    for (let segment = segmentAt(weight, 0); segment < end; segment += 16, factors += 4, zeros += 4) {
      store<f32>(factors, scaleAt(weight, groups, segment))
      store<i32>(zeros, zeroAt(weight, groups, segment))
    }
    return
  }
  const scales = scalesAt(weight, groups)
  const codes = blockCodesAt(weight, row)
  if (codes == 0) {
    for (let segment = segmentAt(weight, 0); segment < end; segment += 16, factors += 4) {
      store<f32>(factors, load<f32>(scales + (load<usize>(segment, 8) << 2)))
    }
    return
  }
  const levels = levelsAt(weight)
  for (let segment = segmentAt(weight, 0); segment < end; segment += 16, factors += 4) {
    const scale = load<f32>(scales + (load<usize>(segment, 8) << 2))
    store<f32>(factors, scale * levelOf(codes, levels, load<i32>(segment, 12)))
  }
}

// @ts-expect-error: decorator
@inline
function totalOf(sums: v128): f32 {
  const low = f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)
  return low + (f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3))
}

/** What a zero takes off must be off before the sum is rounded to float32: little may be left. */
// @ts-expect-error: decorator
@inline
function sumOf(sums: v128): i32 {
  const low = i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1)
  return low + (i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3))
}

function multiplyFloats(weight: usize, x: usize, elements: usize, factors: usize): f32 {
  const count = field(weight, SEGMENT_COUNT)
  let total = f32x4.splat(0)
  for (let i = 0; i < count; i++) {
    const segment = segmentAt(weight, i)
    const end = <usize>load<i32>(segment, 4) << 2
    let at = <usize>load<i32>(segment) << 2
    let sums = f32x4.splat(0)
    for (; at + 16 <= end; at += 16) sums = multiplyAdd(v128.load(x + at), v128.load(elements + at), sums)
    for (; at < end; at += 4) sums = multiplyAdd(v128.load32_zero(x + at), v128.load32_zero(elements + at), sums)
    total = multiplyAdd(v128.load_splat<f32>(factors + (<usize>i << 2)), sums, total)
  }
  return totalOf(total)
}

/** Products of pieces of 16 bits with elements of the same columns, beyond whole vectors of 8. */
function addRest(elements: usize, pieces: usize, at: usize, end: usize): i32 {
  let sum = 0
  for (; at < end; at++) sum += <i32>load<i8>(elements + at) * <i32>load<i16>(pieces + (at << 1))
  return sum
}

/** One piece. */
function multiplyWhole(weight: usize, x: usize, elements: usize, factors: usize, zeros: usize): f32 {
  const count = field(weight, SEGMENT_COUNT)
  const isGrid = field(weight, KIND) == GRID
  const steps = stepsIn(x, field(weight, COLS))
  const bytes = <usize>count << 2
  let segment = segmentAt(weight, 0)
  let total = f32x4.splat(0)
  for (let i: usize = 0; i < bytes; i += 4, segment += 16) {
    const end = <usize>load<i32>(segment, 4)
    let at = <usize>load<i32>(segment)
    let sums = i32x4.splat(0)
    for (; at + 64 <= end; at += 64) {
      const own = elements + at
      const pieces = x + (at << 1)
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(own), v128.load(pieces)))
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(own, 8), v128.load(pieces, 16)))
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(own, 16), v128.load(pieces, 32)))
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(own, 24), v128.load(pieces, 48)))
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(own, 32), v128.load(pieces, 64)))
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(own, 40), v128.load(pieces, 80)))
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(own, 48), v128.load(pieces, 96)))
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(own, 56), v128.load(pieces, 112)))
    }
    for (; at + 8 <= end; at += 8) {
      sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load_ext<i8>(elements + at), v128.load(x + (at << 1))))
    }
    if (at < end || isGrid) {
      let rest = addRest(elements, x, at, end)
      if (isGrid) {
        rest += sumOf(sums) - load<i32>(zeros + i) * load<i32>(steps + bytes + i)
        sums = i32x4.splat(0)
      }
      sums = i32x4.add(sums, i32x4.replace_lane(i32x4.splat(0), 0, rest))
    }
    const factor = load<f32>(factors + i) * load<f32>(steps + i)
    total = multiplyAdd(f32x4.splat(factor), f32x4.convert_i32x4_s(sums), total)
  }
  return totalOf(total)
}

/** Two pieces. */
function multiplyPieces(weight: usize, x: usize, elements: usize, factors: usize, zeros: usize): f32 {
  const count = field(weight, SEGMENT_COUNT)
  const isGrid = field(weight, KIND) == GRID
  const cols = field(weight, COLS)
  const gap = lowIn(0, cols)
  const steps = stepsIn(x, cols)
  const bytes = <usize>count << 2
  let segment = segmentAt(weight, 0)
  let total = f32x4.splat(0)
  for (let i: usize = 0; i < bytes; i += 4, segment += 16) {
    const end = <usize>load<i32>(segment, 4)
    let at = <usize>load<i32>(segment)
    let high = i32x4.splat(0)
    let low = i32x4.splat(0)
    for (; at + 32 <= end; at += 32) {
      const pieces = x + (at << 1)
      const lows = pieces + gap
      let own = v128.load_ext<i8>(elements + at)
      high = i32x4.add(high, i32x4.dot_i16x8_s(own, v128.load(pieces)))
      low = i32x4.add(low, i32x4.dot_i16x8_s(own, v128.load(lows)))
      own = v128.load_ext<i8>(elements + at, 8)
      high = i32x4.add(high, i32x4.dot_i16x8_s(own, v128.load(pieces, 16)))
      low = i32x4.add(low, i32x4.dot_i16x8_s(own, v128.load(lows, 16)))
      own = v128.load_ext<i8>(elements + at, 16)
      high = i32x4.add(high, i32x4.dot_i16x8_s(own, v128.load(pieces, 32)))
      low = i32x4.add(low, i32x4.dot_i16x8_s(own, v128.load(lows, 32)))
      own = v128.load_ext<i8>(elements + at, 24)
      high = i32x4.add(high, i32x4.dot_i16x8_s(own, v128.load(pieces, 48)))
      low = i32x4.add(low, i32x4.dot_i16x8_s(own, v128.load(lows, 48)))
    }
    for (; at + 8 <= end; at += 8) {
      const own = v128.load_ext<i8>(elements + at)
      high = i32x4.add(high, i32x4.dot_i16x8_s(own, v128.load(x + (at << 1))))
      low = i32x4.add(low, i32x4.dot_i16x8_s(own, v128.load(x + gap + (at << 1))))
    }
    if (at < end || isGrid) {
      let rest = addRest(elements, x, at, end)
      let less = addRest(elements, x + gap, at, end)
      if (isGrid) {
        const zero = load<i32>(zeros + i)
        rest += sumOf(high) - zero * load<i32>(steps + bytes + i)
        less += sumOf(low) - zero * load<i32>(steps + 2 * bytes + i)
        high = i32x4.splat(0)
        low = i32x4.splat(0)
      }
      high = i32x4.add(high, i32x4.replace_lane(i32x4.splat(0), 0, rest))
      low = i32x4.add(low, i32x4.replace_lane(i32x4.splat(0), 0, less))
    }
    const sums = multiplyAdd(f32x4.splat(32768), f32x4.convert_i32x4_s(high), f32x4.convert_i32x4_s(low))
    const factor = load<f32>(factors + i) * load<f32>(steps + i)
    total = multiplyAdd(f32x4.splat(factor), sums, total)
  }
  return totalOf(total)
}
