import { aligned, param } from '../job'
import { decodeRow, elementsIn } from './packed-decode'
import {
  COLUMN_FACTORS,
  FLOATS,
  field,
  GRID,
  groupsOf,
  isTrellis,
  KIND,
  levelAt,
  ROWS_PER_GROUP,
  SEGMENT_COUNT,
  scaleAt,
  segmentAt,
  VECTOR_DIM,
  zeroAt,
} from './packed-weight'
import { COLUMNS, packAcross } from '../product'
import { decodeStreams, trellisLevelAt } from './trellis-streams'

const STRIPS_PER_TILE: i32 = 8

/**
 * Expands columns of a packed weight into strips as `packRight` makes them of a transposed B: each weight the float32 that
 * it stands for.
 *
 * Parameters: the weight; first column (its code starts on a byte), columns; first row, rows; where strips go. Scratch: a
 * strip's rows of floats | what decoding needs.
 */
export function expandPackedTile(tile: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const from = param<i32>(1)
  const depth = param<i32>(2)
  const rows = param<i32>(4)
  const first = tile * STRIPS_PER_TILE * COLUMNS
  const last = min(first + STRIPS_PER_TILE * COLUMNS, rows)
  const d = field(weight, VECTOR_DIM)
  const vectors = (depth + d - 1) / d
  const stride = aligned(<usize>depth << 2)
  const decoding = scratch + <usize>COLUMNS * stride
  let segment = 0
  while (load<i32>(segmentAt(weight, segment), 4) <= from) segment++
  for (let row = first; row < last; row += COLUMNS) {
    const width = min(COLUMNS, last - row)
    if (isTrellis(weight)) decodeStrip(weight, param<i32>(3) + row, width, from / d, vectors, decoding)
    for (let j = 0; j < width; j++) {
      const own = param<i32>(3) + row + j
      let elements = decoding + <usize>j * STRIP_BYTES
      if (!isTrellis(weight)) {
        decodeRow(weight, own, from / d, vectors, decoding)
        elements = elementsIn(decoding, vectors)
      }
      scaleRow(weight, own, segment, from, depth, elements, scratch + <usize>j * stride)
    }
    packAcross(scratch, stride, depth, width, COLUMNS, param<usize>(5) + ((<usize>row * <usize>depth) << 2))
  }
}

/** Bytes of a row of elements of a trellis: 256, and what vectors may reach beyond. */
const STRIP_BYTES: usize = 272

/** Rows that may be of several groups. */
function decodeStrip(weight: usize, first: i32, count: i32, vector: i32, vectors: i32, to: usize): void {
  const perGroup = field(weight, ROWS_PER_GROUP)
  for (let row = first, end = first + count; row < end; ) {
    const rows = min(end - row, perGroup - (row % perGroup))
    decodeStreams(weight, row, rows, vector, vectors, to, STRIP_BYTES)
    to += <usize>rows * STRIP_BYTES
    row += rows
  }
}

/** The weights of `depth` columns from `from` on, which lies in `segment`. */
function scaleRow(weight: usize, row: i32, segment: i32, from: i32, depth: i32, elements: usize, to: usize): void {
  const kind = field(weight, KIND)
  const count = field(weight, SEGMENT_COUNT)
  const groups = groupsOf(weight, row)
  for (; segment < count; segment++) {
    const entry = segmentAt(weight, segment)
    const start = max(load<i32>(entry) - from, 0)
    const end = min(load<i32>(entry, 4) - from, depth)
    if (start >= depth) return
    const scale = scaleAt(weight, groups, entry)
    const level = isTrellis(weight) ? trellisLevelAt(weight, row, entry) : levelAt(weight, row, entry)
    const zero = kind == GRID ? zeroAt(weight, groups, entry) : 0
    if (kind == FLOATS) scaleFloats(elements, start, end, scale, level, to)
    else if (isTrellis(weight)) scaleColumns(elements, start, end, load<usize>(weight, COLUMN_FACTORS) + (<usize>from << 2), scale, level, to)
    else scaleBytes(elements, start, end, zero, scale, level, to)
  }
}

function scaleFloats(elements: usize, start: i32, end: i32, scale: f32, level: f32, to: usize): void {
  for (let at = <usize>start << 2; at < <usize>end << 2; at += 4) {
    store<f32>(to + at, load<f32>(elements + at) * scale * level)
  }
}

function scaleBytes(elements: usize, start: i32, end: i32, zero: i32, scale: f32, level: f32, to: usize): void {
  const scales = f32x4.splat(scale)
  const levels = f32x4.splat(level)
  const zeros = i16x8.splat(<i16>zero)
  let at = start
  for (; at + 8 <= end; at += 8) {
    const own = i16x8.sub(v128.load_ext<i8>(elements + <usize>at), zeros)
    const low = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(own))
    const high = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(own))
    const target = to + (<usize>at << 2)
    v128.store(target, f32x4.mul(f32x4.mul(low, scales), levels))
    v128.store(target, f32x4.mul(f32x4.mul(high, scales), levels), 16)
  }
  for (; at < end; at++) {
    store<f32>(to + (<usize>at << 2), <f32>(<i32>load<i8>(elements + <usize>at) - zero) * scale * level)
  }
}

/** With a factor for each column, whose product with the scale and an element is exact. */
function scaleColumns(elements: usize, start: i32, end: i32, factors: usize, scale: f32, level: f32, to: usize): void {
  const scales = f32x4.splat(scale)
  const levels = f32x4.splat(level)
  let at = <usize>start
  for (; at + 4 <= <usize>end; at += 4) {
    const four = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(elements + at)))
    const own = f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(four), scales), v128.load(factors + (at << 2)))
    v128.store(to + (at << 2), f32x4.mul(own, levels))
  }
  for (; at < <usize>end; at++) {
    const own = <f32>load<i8>(elements + at) * scale * load<f32>(factors + (at << 2))
    store<f32>(to + (at << 2), own * level)
  }
}
