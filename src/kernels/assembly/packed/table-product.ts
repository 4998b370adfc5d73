import { param } from '../job'
import { chosen, mixHigh, mixHighWords, mixLow, mixLowWords, multiplyAdd } from '../simd'
import { stepsIn } from './packed-activations'
import {
  CODES,
  elementsAt,
  field,
  groupsOf,
  LEVEL_PLANES,
  LEVELS_DOWN,
  ROWS,
  ROWS_PER_GROUP,
  SEGMENT_COUNT,
  SLOTS,
  scaleAt,
  segmentAt,
  tileAt,
} from './packed-weight'

/** Rows of a tile: the bytes of a register. */
const TILE: i32 = 16
/** Of a pair of activations: low bytes of its products with 16 centroids, then their high bytes. */
const TABLE_BYTES: usize = 32
/** Those of a segment, 256 columns at most. */
const TABLES_BYTES: usize = 128 * TABLE_BYTES
/** Floats of a tile: those of rows 0, 4, 8 and 12, then of rows 1, 5, 9 and 13, and so on. */
const FLOATS_BYTES: usize = 64

/**
 * `Y = X W^T` for few rows of X, rounded to 14 bits, and a weight of pairs with codes of 4 bits whose codebooks serve many rows:
 * tables of the products of a pair of activations with all 16 centroids, which byte shuffles read for 16 rows at once. The codes
 * of 4 columns of a tile are 16 bytes: its rows' low halves are for the first pair, their high halves for the second. Products
 * with elements are rounded to multiples of 128, so that 16 bits have room for those of a pair; sums of a segment's low bytes fit
 * 16 bits, and of its high ones, so they are exact until they are scaled.
 *
 * Parameters as of `multiplyPackedTile`; tiles that a job takes, and jobs of a row group. Scratch: tables of a segment | totals
 * of each tile.
 */
export function multiplyTablesTile(job: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const perGroup = field(weight, ROWS_PER_GROUP)
  const group = (job / param<i32>(8)) * perGroup
  const end = min(group + perGroup, field(weight, ROWS))
  const first = group + (job % param<i32>(8)) * param<i32>(7) * TILE
  const last = min(first + param<i32>(7) * TILE, end)
  if (first >= last) return
  const totals = scratch + TABLES_BYTES
  const floats = <usize>((last - first + TILE - 1) / TILE) * FLOATS_BYTES
  for (let i: usize = 0; i < <usize>param<i32>(4); i++) {
    memory.fill(totals, 0, floats)
    addSegments(weight, first, param<usize>(1) + i * param<usize>(2), scratch, totals, totals + floats)
    storeTotals(param<usize>(5) + ((i * param<usize>(6)) << 2), first, last, totals)
  }
}

function addSegments(weight: usize, row: i32, x: usize, tables: usize, totals: usize, totalsEnd: usize): void {
  const slots = load<usize>(weight, SLOTS)
  const groups = groupsOf(weight, row)
  const elements = elementsAt(weight, groups)
  const segments = field(weight, SEGMENT_COUNT)
  const last = segmentAt(weight, segments)
  const codes = tileAt(weight, row)
  const planes = load<usize>(weight, LEVEL_PLANES)
  const tile = (codes - load<usize>(weight, CODES)) / (slots << 2)
  let levels = load<usize>(weight, LEVELS_DOWN) + tile * <usize>(segments << 3)
  let step = stepsIn(x, <i32>slots)
  for (let segment = segmentAt(weight, 0); segment < last; segment += 16, step += 4, levels += 8) {
    const start = load<usize>(segment)
    const end = segment + 16 < last ? load<usize>(segment, 16) : slots
    makeTables(x + (start << 1), x + (end << 1), elements + (load<usize>(segment, 8) << 5), tables)
    const scale = f32x4.splat(scaleAt(weight, groups, segment) * (load<f32>(step) * 128))
    const tablesEnd = tables + ((end - start) << 4)
    addTiles(codes + (start << 2), slots << 2, tables, tablesEnd, scale, planes, levels, <usize>(segments << 3), totals, totalsEnd)
  }
}

/** Tables of the activations from `x` to `end`, in slots as `wasm/packed/nibble-slots.ts` says. */
function makeTables(x: usize, end: usize, codebook: usize, to: usize): void {
  const firsts = v128.load(codebook)
  const seconds = v128.load(codebook, 16)
  // elements times 256: what a product is divided by is 2^15
  const f0 = i16x8.shl(i16x8.extend_low_i8x16_s(firsts), 8)
  const f1 = i16x8.shl(i16x8.extend_high_i8x16_s(firsts), 8)
  const s0 = i16x8.shl(i16x8.extend_low_i8x16_s(seconds), 8)
  const s1 = i16x8.shl(i16x8.extend_high_i8x16_s(seconds), 8)
  for (; x < end; x += 96) {
    for (const next = x + 32; x < next; x += 2, to += 2 * TABLE_BYTES) {
      makeTable(f0, f1, s0, s1, v128.load16_splat(x), v128.load16_splat(x, 32), to)
      makeTable(f0, f1, s0, s1, v128.load16_splat(x, 64), v128.load16_splat(x, 96), to + TABLE_BYTES)
    }
  }
}

// @ts-expect-error: decorator
@inline
function makeTable(f0: v128, f1: v128, s0: v128, s1: v128, first: v128, second: v128, to: usize): void {
  const low = i16x8.splat(255)
  const a = i16x8.add(i16x8.q15mulr_sat_s(f0, first), i16x8.q15mulr_sat_s(s0, second))
  const b = i16x8.add(i16x8.q15mulr_sat_s(f1, first), i16x8.q15mulr_sat_s(s1, second))
  v128.store(to, i8x16.narrow_i16x8_u(v128.and(a, low), v128.and(b, low)))
  // high bytes are raised to be positive
  const high = i8x16.narrow_i16x8_s(i16x8.shr_s(a, 8), i16x8.shr_s(b, 8))
  v128.store(to, v128.xor(high, i8x16.splat(-128)), 16)
}

/**
 * Adds what a segment gives to the totals of tiles, up to `end`. Of a register of bytes, sums of 16 bits take the bytes of odd
 * rows alone, and those of even rows with the odd ones 256 times, which are taken off in the end.
 *
 * @param codes of the first tile; the others follow, `stride` bytes apart
 * @param planes the bytes of the 16 levels: first ones, second ones and so on; 0 without levels
 * @param levels codes of the rows of the first tile; the others follow, `levelStride` bytes apart
 */
function addTiles(
  codes: usize,
  stride: usize,
  tables: usize,
  tablesEnd: usize,
  scale: v128,
  planes: usize,
  levels: usize,
  levelStride: usize,
  totals: usize,
  end: usize,
): void {
  const fifteen = i8x16.splat(15)
  // what high bytes are raised by, 128 a pair, is off before anything is added
  const raised = <i32>(tablesEnd - tables) << 2
  for (; totals < end; codes += stride, levels += levelStride, totals += FLOATS_BYTES) {
    let low = i16x8.splat(0)
    let oddLow = i16x8.splat(0)
    let high = i16x8.splat(<i16>(-257 * raised))
    let oddHigh = i16x8.splat(<i16>-raised)
    for (let table = tables, at = codes; table < tablesEnd; table += 64, at += 16) {
      const pairs = v128.load(at)
      const first = v128.and(pairs, fifteen)
      const second = v128.and(i16x8.shr_u(pairs, 4), fifteen)
      let a = chosen(v128.load(table), first)
      let b = chosen(v128.load(table, 32), second)
      low = i16x8.add(i16x8.add(low, a), b)
      oddLow = i16x8.add(i16x8.add(oddLow, i16x8.shr_u(a, 8)), i16x8.shr_u(b, 8))
      a = chosen(v128.load(table, 16), first)
      b = chosen(v128.load(table, 48), second)
      high = i16x8.add(i16x8.add(high, a), b)
      oddHigh = i16x8.add(i16x8.add(oddHigh, i16x8.shr_u(a, 8)), i16x8.shr_u(b, 8))
    }
    low = i16x8.sub(low, i16x8.shl(oddLow, 8))
    high = i16x8.sub(high, i16x8.shl(oddHigh, 8))
    if (planes == 0) {
      addTotal(firstSums(low, high), scale, totals)
      addTotal(firstSums(oddLow, oddHigh), scale, totals + 16)
      addTotal(lastSums(low, high), scale, totals + 32)
      addTotal(lastSums(oddLow, oddHigh), scale, totals + 48)
      continue
    }
    const halves = v128.load64_zero(levels)
    const numbers = v128.shuffle<u64>(v128.and(halves, fifteen), v128.and(i16x8.shr_u(halves, 4), fifteen), 0, 2)
    const bytes0 = chosen(v128.load(planes), numbers)
    const bytes1 = chosen(v128.load(planes, 16), numbers)
    const bytes2 = chosen(v128.load(planes, 32), numbers)
    const bytes3 = chosen(v128.load(planes, 48), numbers)
    let lower = mixLow(bytes0, bytes1)
    let upper = mixLow(bytes2, bytes3)
    addTotal(firstSums(low, high), f32x4.mul(scale, mixLowWords(lower, upper)), totals)
    addTotal(firstSums(oddLow, oddHigh), f32x4.mul(scale, mixHighWords(lower, upper)), totals + 16)
    lower = mixHigh(bytes0, bytes1)
    upper = mixHigh(bytes2, bytes3)
    addTotal(lastSums(low, high), f32x4.mul(scale, mixLowWords(lower, upper)), totals + 32)
    addTotal(lastSums(oddLow, oddHigh), f32x4.mul(scale, mixHighWords(lower, upper)), totals + 48)
  }
}

/** What the lower 16 bits of four lanes come to, sums of low bytes and of high ones. */
// @ts-expect-error: decorator
@inline
function firstSums(low: v128, high: v128): v128 {
  return i32x4.add(v128.and(low, i32x4.splat(0xffff)), i32x4.shr_s(i32x4.shl(high, 16), 8))
}

/** And the upper ones. */
// @ts-expect-error: decorator
@inline
function lastSums(low: v128, high: v128): v128 {
  return i32x4.add(i32x4.shr_u(low, 16), i32x4.shl(i32x4.shr_s(high, 16), 8))
}

// @ts-expect-error: decorator
@inline
function addTotal(sums: v128, factor: v128, total: usize): void {
  v128.store(total, multiplyAdd(factor, f32x4.convert_i32x4_s(sums), v128.load(total)))
}

function storeTotals(y: usize, first: i32, last: i32, totals: usize): void {
  for (let row = first; row < last; row++) {
    const below = row - first
    const at = ((below >> 4) << 6) + ((below & 3) << 4) + (below & 12)
    store<f32>(y + (<usize>row << 2), load<f32>(totals + <usize>at))
  }
}
