import { chosen, mixHighWords, mixLowWords } from '../simd'
import {
  ELEMENTS,
  elementsAt,
  field,
  GRID,
  goesDown,
  KIND,
  loadNibbles,
  ROWS,
  ROWS_PER_GROUP,
  RUNS,
  STATE_BITS,
  VECTOR_DIM,
  zeroAt,
} from './packed-weight'
import { fourPairs } from './trellis-run'
import { heightOf, regionAt, SHIFT, tailOf } from './trellis-streams'

/**
 * Strips of a weight as `integer-product.ts` reads them: for two slots after the other, the two elements of 8 rows, 16 bits
 * each.
 */

/** Rows of a strip. */
export const STRIP: i32 = 8
/** Bytes of two slots. */
export const PAIR_BYTES: usize = 32
const NIBBLE_ROW: usize = 64
/** Behind the groups of 8 rows: where the codes of each are. */
export const PLACES: usize = 32

/** Takes the elements of 8 rows, `stride` bytes apart, less `zeros`; up to 7 pairs more than asked for are written. */
export function mixElements(from: usize, stride: usize, pairs: i32, zeros: usize, to: usize): void {
  const less = v128.load(zeros)
  const lessHigh = v128.load(zeros, 16)
  for (const end = to + <usize>pairs * PAIR_BYTES; to < end; from += 16) {
    const four = from + 4 * stride
    const a = v128.load(from)
    const b = v128.load(from + stride)
    const c = v128.load(from + 2 * stride)
    const d = v128.load(from + 3 * stride)
    const e = v128.load(four)
    const f = v128.load(four + stride)
    const g = v128.load(four + 2 * stride)
    const h = v128.load(four + 3 * stride)
    const abLow = mixLowWords(a, b)
    const cdLow = mixLowWords(c, d)
    const efLow = mixLowWords(e, f)
    const ghLow = mixLowWords(g, h)
    to = storePairs(lowDoubles(abLow, cdLow), lowDoubles(efLow, ghLow), less, lessHigh, to)
    to = storePairs(highDoubles(abLow, cdLow), highDoubles(efLow, ghLow), less, lessHigh, to)
    const abHigh = mixHighWords(a, b)
    const cdHigh = mixHighWords(c, d)
    const efHigh = mixHighWords(e, f)
    const ghHigh = mixHighWords(g, h)
    to = storePairs(lowDoubles(abHigh, cdHigh), lowDoubles(efHigh, ghHigh), less, lessHigh, to)
    to = storePairs(highDoubles(abHigh, cdHigh), highDoubles(efHigh, ghHigh), less, lessHigh, to)
  }
}

// @ts-expect-error: decorator
@inline
function lowDoubles(a: v128, b: v128): v128 {
  return v128.shuffle<u32>(a, b, 0, 4, 1, 5)
}

// @ts-expect-error: decorator
@inline
function highDoubles(a: v128, b: v128): v128 {
  return v128.shuffle<u32>(a, b, 2, 6, 3, 7)
}

/** Two pairs of slots: of the first four rows, of the last four. @returns where the next ones go */
// @ts-expect-error: decorator
@inline
function storePairs(upper: v128, lower: v128, less: v128, lessHigh: v128, to: usize): usize {
  v128.store(to, i16x8.sub(i16x8.extend_low_i8x16_s(upper), less))
  v128.store(to, i16x8.sub(i16x8.extend_low_i8x16_s(lower), lessHigh), 16)
  v128.store(to, i16x8.sub(i16x8.extend_high_i8x16_s(upper), less), 32)
  v128.store(to, i16x8.sub(i16x8.extend_high_i8x16_s(lower), lessHigh), 48)
  return to + 64
}

/** What is taken off the elements of 8 rows: twice for each, 16 bits. */
export function writeZeros(weight: usize, rows: usize, segment: usize, zeros: usize): void {
  for (let j: usize = 0; j < <usize>STRIP; j++) {
    const zero = field(weight, KIND) == GRID ? zeroAt(weight, load<i32>(rows + (j << 2)), segment) : 0
    store<u32>(zeros + (j << 2), (zero & 0xffff) | (zero << 16))
  }
}

/**
 * Slots of a segment of pairs with codes of 4 bits; `scratch` holds 64 bytes of each row.
 *
 * @param rows of each row: groups | codes and what lies between those of 64 slots and the next
 * @param group of columns
 * @param start, end of the slots, whole 64s
 * @param zeros 32 bytes of 0
 */
export function expandNibbles(
  weight: usize,
  rows: usize,
  group: i32,
  start: usize,
  end: usize,
  zeros: usize,
  scratch: usize,
  to: usize,
): void {
  const fifteen = i8x16.splat(15)
  for (let slot = start; slot < end; slot += 64, to += 32 * PAIR_BYTES) {
    for (let j: usize = 0; j < <usize>STRIP; j++) {
      const place = rows + (j << 3)
      const table = elementsAt(weight, load<i32>(rows + (j << 2)) + group)
      const at = load<usize>(place, PLACES) + (slot >> 6) * load<usize>(place, PLACES + 4)
      const pairs = loadNibbles(at, goesDown(weight))
      const low = v128.and(pairs, fifteen)
      const high = i8x16.shr_u(pairs, 4)
      const firsts = v128.load(table)
      const seconds = v128.load(table, 16)
      const own = scratch + j * NIBBLE_ROW
      v128.store(own, chosen(firsts, low))
      v128.store(own, chosen(seconds, low), 16)
      v128.store(own, chosen(firsts, high), 32)
      v128.store(own, chosen(seconds, high), 48)
    }
    mixElements(scratch, NIBBLE_ROW, 32, zeros, to)
  }
}

/**
 * Slots of a segment of a trellis; `stretch` says where they are. Rows beyond the last one are some others. Single weights
 * share the two places of a pair.
 */
export function expandStreams(weight: usize, first: i32, stretch: usize, to: usize): void {
  const perGroup = field(weight, ROWS_PER_GROUP)
  const group = first / perGroup
  const below = first - group * perGroup
  const isOfOneGroup = below + STRIP <= perGroup || (group + 1) * perGroup >= field(weight, ROWS)
  if (field(weight, VECTOR_DIM) > 2 || (below & 7) != 0 || !isOfOneGroup) {
    for (let j = 0; j < STRIP; j++) {
      expandStreamRow(weight, min(first + j, field(weight, ROWS) - 1), stretch, to + (<usize>j << 2))
    }
    return
  }
  const height = heightOf(weight, group)
  const stateBits = field(weight, STATE_BITS)
  const mask: u32 = ((1 << stateBits) - 1) << 2
  const end = load<usize>(weight, RUNS) + (load<usize>(stretch, 12) << 3)
  const rest = (height - STRIP - below) >> 3
  const isOfPairs = field(weight, VECTOR_DIM) == 2
  let codes = regionAt(weight, group) + <usize>((height >> 3) * load<i32>(stretch, 16) + load<i32>(stretch, 20))
  let vector: usize = 0
  for (let run = load<usize>(weight, RUNS) + (load<usize>(stretch, 8) << 3); run < end; run += 8) {
    const width = load<i32>(run)
    const next = vector + load<usize>(run, 4)
    const stride = <usize>((height >> 3) * width + tailOf(stateBits, width))
    const at = codes + <usize>(rest * width)
    if (isOfPairs) expandRun(width, at, stride, mask, to + vector * PAIR_BYTES, to + next * PAIR_BYTES)
    else expandSingles(width, at, stride, mask, to, vector, next)
    codes += (next - vector) * stride
    vector = next
  }
}

/** One row, whatever the dimension of vectors. */
function expandStreamRow(weight: usize, row: i32, stretch: usize, to: usize): void {
  const perGroup = field(weight, ROWS_PER_GROUP)
  const d = field(weight, VECTOR_DIM)
  const group = row / perGroup
  const height = heightOf(weight, group)
  const stateBits = field(weight, STATE_BITS)
  const mask: u32 = (1 << stateBits) - 1
  const elements = load<usize>(weight, ELEMENTS)
  const codesBelow = height - 1 - (row - group * perGroup)
  const end = load<usize>(weight, RUNS) + (load<usize>(stretch, 12) << 3)
  let isSecond = false
  let stream = regionAt(weight, group) + <usize>((height >> 3) * load<i32>(stretch, 16) + load<i32>(stretch, 20))
  for (let run = load<usize>(weight, RUNS) + (load<usize>(stretch, 8) << 3); run < end; run += 8) {
    const width = load<i32>(run)
    const bit = SHIFT + codesBelow * width
    const stride = <usize>((height >> 3) * width + tailOf(stateBits, width))
    for (let i = 0; i < load<i32>(run, 4); i++, stream += stride) {
      const number = (load<u32>(stream + <usize>(bit >> 3)) >> (bit & 7)) & mask
      const vector = elements + <usize>number * <usize>d
      if (isSecond) store<i16>(to - PAIR_BYTES, load<i8>(vector), 2)
      else {
        for (let e = 0; e < d; e += 2, to += PAIR_BYTES) {
          store<i16>(to, load<i8>(vector + <usize>e))
          store<i16>(to, d == 1 ? 0 : load<i8>(vector + <usize>e, 1), 2)
        }
      }
      isSecond = d == 1 && !isSecond
    }
  }
}

/** Vectors of one weight, from one to another, two of them to a pair. */
function expandSingles(width: i32, at: usize, stride: usize, mask: u32, to: usize, vector: usize, end: usize): void {
  const upper = <usize>(width >> 1)
  const bit = <u64>((4 * width) & 7)
  const step = <u64>width
  for (; vector < end; vector++, at += stride) {
    const pair = to + (vector >> 1) * PAIR_BYTES
    const high = fourPairs(load<u64>(at + upper) >> bit, step, mask)
    const low = fourPairs(load<u64>(at), step, mask)
    if (vector & 1) {
      v128.store(pair, v128.or(v128.load(pair), i32x4.shl(high, 16)))
      v128.store(pair, v128.or(v128.load(pair, 16), i32x4.shl(low, 16)), 16)
    } else {
      v128.store(pair, high)
      v128.store(pair, low, 16)
    }
  }
}

/** Pairs of the table of numbers, 8 rows at once: the last of them begins at `at`. */
function expandRun(width: i32, at: usize, stride: usize, mask: u32, to: usize, end: usize): void {
  const upper = <usize>(width >> 1)
  const bit = <u64>((4 * width) & 7)
  const step = <u64>width
  for (; to < end; to += PAIR_BYTES, at += stride) {
    v128.store(to, fourPairs(load<u64>(at + upper) >> bit, step, mask))
    v128.store(to, fourPairs(load<u64>(at), step, mask), 16)
  }
}
