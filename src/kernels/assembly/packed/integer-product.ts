import { aligned, param } from '../job'
import { multiplyAdd } from '../simd'
import { QUAD } from './integer-activations'
import { expandNibbles, expandStreams, mixElements, PAIR_BYTES, PLACES, STRIP, writeZeros } from './integer-panel'
import { decodeRow, elementsIn } from './packed-decode'
import {
  COLS,
  field,
  filledSlots,
  groupsOf,
  hasNibbles,
  isTrellis,
  levelAt,
  nibblesAt,
  nibblesStep,
  ROWS,
  SEGMENT_COUNT,
  scaleAt,
  segmentAt,
  slotsOf,
  stretchAt,
  VECTOR_DIM,
} from './packed-weight'
import { trellisLevelAt } from './trellis-streams'

/** Bytes of the totals of four rows of X and a strip of W. */
const TOTALS_BYTES: usize = 128
/** Factors of a strip's rows in a segment. */
const FACTORS_BYTES: usize = 32
/** What {@link expandNibbles} wants to know of a strip's rows. */
const PLACES_BYTES: usize = 96
const NIBBLE_BYTES: usize = 512

/**
 * `Y = X W^T` for many rows of X, rounded and packed by `integer-activations.ts`, and a weight of int8 elements. Segment by
 * segment, strips of W are expanded to 16 bits and multiplied with four rows of X after the other: sums are exact; they are
 * scaled and added up in float32.
 *
 * Parameters: the weight; packed X, its rows; address and stride of Y; rows of W of a tile, whole strips; rows of X of a tile,
 * whole fours; pairs of slots of a segment at most, and of all. Tiles run down W first. Scratch: totals, of each four rows
 * those of each strip | of each strip: its panel | its factors | its places | zeros | what expanding needs.
 */
export function multiplyIntegersTile(tile: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const m = param<i32>(2)
  const tileRows = param<i32>(5)
  const rows = field(weight, ROWS)
  const tiles = (rows + tileRows - 1) / tileRows
  const first = (tile % tiles) * tileRows
  const strips = (min(first + tileRows, rows) - first + STRIP - 1) / STRIP
  const top = (tile / tiles) * param<i32>(6)
  const fours = (min(top + param<i32>(6), m) - top + QUAD - 1) / QUAD
  const all = <usize>((m + QUAD - 1) / QUAD)
  const totalsStep = <usize>strips * TOTALS_BYTES
  const panelBytes = (param<usize>(7) + 8) * PAIR_BYTES
  const panels = scratch + <usize>fours * totalsStep
  const factors = panels + <usize>strips * panelBytes
  const places = factors + <usize>strips * FACTORS_BYTES
  const zeros = places + <usize>strips * PLACES_BYTES
  const expanding = zeros + PAIR_BYTES
  memory.fill(scratch, 0, <usize>fours * totalsStep)
  memory.fill(zeros, 0, PAIR_BYTES)
  startStrips(weight, first, strips, places, expanding)
  const segments = field(weight, SEGMENT_COUNT)
  let x = param<usize>(1)
  let steps = x + ((all * param<usize>(8)) << 4) + (<usize>(top / QUAD) << 4)
  for (let segment = 0; segment < segments; segment++, steps += all << 4) {
    const pairs = <usize>((filledSlots(weight, segment) + 1) >> 1)
    for (let strip: usize = 0; strip < <usize>strips; strip++) {
      const own = first + <i32>strip * STRIP
      writeFactors(weight, own, places + strip * PLACES_BYTES, segment, factors + strip * FACTORS_BYTES)
      const to = panels + strip * panelBytes
      expandStrip(weight, own, <i32>strip, segment, places + strip * PLACES_BYTES, zeros, expanding, <i32>pairs, to)
    }
    const own = x + ((<usize>(top / QUAD) * pairs) << 4)
    multiplySegment(own, pairs << 4, steps, panels, panelBytes, factors, scratch, panels, totalsStep)
    x += (all * pairs) << 4
  }
  let totals = scratch
  for (let i = 0; i < fours; i++) {
    for (let strip = 0; strip < strips; strip++, totals += TOTALS_BYTES) {
      storeTotals(totals, top + i * QUAD, m, first + strip * STRIP, rows)
    }
  }
}

/** Adds four rows of X after the other, `bytes` apart, times all strips to their totals, which end at `end`. */
function multiplySegment(
  x: usize,
  bytes: usize,
  steps: usize,
  panels: usize,
  panelBytes: usize,
  factors: usize,
  totals: usize,
  end: usize,
  totalsStep: usize,
): void {
  for (; totals < end; x += bytes, steps += 16) {
    let panel = panels
    let own = factors
    for (const next = totals + totalsStep; totals < next; totals += TOTALS_BYTES, own += FACTORS_BYTES) {
      multiplyPairs(x, panel, x + bytes, steps, own, totals)
      panel += panelBytes
    }
  }
}

/** Writes what is known of a strip's rows before its segments are; rows beyond the last one are as that. */
function startStrips(weight: usize, first: i32, strips: i32, places: usize, expanding: usize): void {
  const last = field(weight, ROWS) - 1
  const isDecoded = !isTrellis(weight) && !hasNibbles(weight)
  const d = field(weight, VECTOR_DIM)
  const vectors = (field(weight, COLS) + d - 1) / d
  const rowBytes = decodedBytes(weight)
  const decoding = expanding + <usize>(strips * STRIP) * rowBytes
  for (let i = 0; i < strips * STRIP; i++) {
    const row = min(first + i, last)
    const own = places + <usize>(i / STRIP) * PLACES_BYTES
    const j = <usize>(i % STRIP)
    store<i32>(own + (j << 2), groupsOf(weight, row))
    if (hasNibbles(weight)) {
      store<usize>(own + (j << 3), nibblesAt(weight, row), PLACES)
      store<usize>(own + (j << 3), nibblesStep(weight, row), PLACES + 4)
    } else if (isDecoded) {
      decodeRow(weight, row, 0, vectors, decoding)
      memory.copy(expanding + <usize>i * rowBytes, elementsIn(decoding, vectors), <usize>(vectors * d))
    }
  }
}

/** Of a row of elements, and what is read beyond them. */
// @ts-expect-error: decorator
@inline
function decodedBytes(weight: usize): usize {
  return aligned(<usize>(field(weight, COLS) + 16))
}

function expandStrip(
  weight: usize,
  first: i32,
  strip: i32,
  segment: i32,
  places: usize,
  zeros: usize,
  expanding: usize,
  pairs: i32,
  to: usize,
): void {
  const entry = segmentAt(weight, segment)
  const ends = slotsOf(weight, segment)
  if (isTrellis(weight)) expandStreams(weight, first, stretchAt(weight, segment), to)
  else if (hasNibbles(weight)) {
    const group = load<i32>(entry, 8)
    expandNibbles(weight, places, group, load<usize>(ends), load<usize>(ends, 4), zeros, expanding, to)
  } else {
    const rowBytes = decodedBytes(weight)
    writeZeros(weight, places, entry, zeros)
    mixElements(expanding + <usize>(strip * STRIP) * rowBytes + load<usize>(ends), rowBytes, pairs, zeros, to)
  }
}

/** What the rows of a strip are multiplied by in a segment. */
function writeFactors(weight: usize, first: i32, places: usize, segment: i32, factors: usize): void {
  const entry = segmentAt(weight, segment)
  const last = field(weight, ROWS) - 1
  for (let j = 0; j < STRIP; j++) {
    const row = min(first + j, last)
    const level = isTrellis(weight) ? trellisLevelAt(weight, row, entry) : levelAt(weight, row, entry)
    store<f32>(factors + (<usize>j << 2), scaleAt(weight, load<i32>(places + (<usize>j << 2)), entry) * level)
  }
}

/** Adds four rows of X times a strip to their totals, 8 of each row after the other. */
function multiplyPairs(x: usize, panel: usize, end: usize, steps: usize, factors: usize, totals: usize): void {
  let s00 = i32x4.splat(0)
  let s01 = i32x4.splat(0)
  let s10 = i32x4.splat(0)
  let s11 = i32x4.splat(0)
  let s20 = i32x4.splat(0)
  let s21 = i32x4.splat(0)
  let s30 = i32x4.splat(0)
  let s31 = i32x4.splat(0)
  do {
    const left = v128.load(panel)
    const right = v128.load(panel, 16)
    let pair = v128.load32_splat(x)
    s00 = i32x4.add(s00, i32x4.dot_i16x8_s(pair, left))
    s01 = i32x4.add(s01, i32x4.dot_i16x8_s(pair, right))
    pair = v128.load32_splat(x, 4)
    s10 = i32x4.add(s10, i32x4.dot_i16x8_s(pair, left))
    s11 = i32x4.add(s11, i32x4.dot_i16x8_s(pair, right))
    pair = v128.load32_splat(x, 8)
    s20 = i32x4.add(s20, i32x4.dot_i16x8_s(pair, left))
    s21 = i32x4.add(s21, i32x4.dot_i16x8_s(pair, right))
    pair = v128.load32_splat(x, 12)
    s30 = i32x4.add(s30, i32x4.dot_i16x8_s(pair, left))
    s31 = i32x4.add(s31, i32x4.dot_i16x8_s(pair, right))
    x += 16
    panel += PAIR_BYTES
  } while (x < end)
  const left = v128.load(factors)
  const right = v128.load(factors, 16)
  addRow(s00, s01, left, right, v128.load32_splat(steps), totals)
  addRow(s10, s11, left, right, v128.load32_splat(steps, 4), totals + 32)
  addRow(s20, s21, left, right, v128.load32_splat(steps, 8), totals + 64)
  addRow(s30, s31, left, right, v128.load32_splat(steps, 12), totals + 96)
}

// @ts-expect-error: decorator
@inline
function addRow(low: v128, high: v128, left: v128, right: v128, step: v128, totals: usize): void {
  const factor = f32x4.mul(left, step)
  v128.store(totals, multiplyAdd(factor, f32x4.convert_i32x4_s(low), v128.load(totals)))
  const other = f32x4.mul(right, step)
  v128.store(totals, multiplyAdd(other, f32x4.convert_i32x4_s(high), v128.load(totals, 16)), 16)
}

/** The rows of Y that are, and those of W. */
function storeTotals(totals: usize, top: i32, m: i32, first: i32, rows: i32): void {
  const stride = param<usize>(4) << 2
  let y = param<usize>(3) + <usize>top * stride + (<usize>first << 2)
  const width = min(STRIP, rows - first)
  for (let i = top; i < min(top + QUAD, m); i++, y += stride, totals += 32) {
    if (width == STRIP) {
      v128.store(y, v128.load(totals))
      v128.store(y, v128.load(totals, 16), 16)
    } else memory.copy(y, totals, <usize>width << 2)
  }
}
