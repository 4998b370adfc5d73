import { PAIRS } from '../job'
import {
  BLOCK_CODES,
  BLOCKS,
  CODES,
  ELEMENTS,
  field,
  LEVEL_PAIRS,
  levelOf,
  levelsAt,
  PLACES,
  REGION_BYTES,
  ROWS,
  ROWS_PER_GROUP,
  STATE_BITS,
  VECTOR_DIM,
} from './packed-weight'
import { TILE } from './trellis-run'

/**
 * The codes of a trellis as `wasm/packed/trellis-streams.ts` lays them out. In a stream, the codes of a column of vectors
 * follow each other from the last row of a row group up, so the number of a centroid is some bits in a row of it, from its
 * own code on.
 */

/** Bits in front of a stream: a number read from where its code starts is then its place in a table of 4 bytes each. */
export const SHIFT: i32 = 2

/** Where the streams of a row group are. */
// @ts-expect-error: decorator
@inline
export function regionAt(weight: usize, group: i32): usize {
  return load<usize>(weight, CODES) + <usize>group * load<usize>(weight, REGION_BYTES)
}

/** Rows that the streams of a row group have room for, whole tiles. */
// @ts-expect-error: decorator
@inline
export function heightOf(weight: usize, group: i32): i32 {
  const perGroup = field(weight, ROWS_PER_GROUP)
  const rows = min(perGroup, field(weight, ROWS) - group * perGroup)
  return (rows + TILE - 1) & -TILE
}

/** The codes of the levels of a row group in a block of columns, two rows a byte, as many rows as streams have room for. */
// @ts-expect-error: decorator
@inline
export function levelCodesAt(weight: usize, group: i32, block: i32): usize {
  const full = (field(weight, ROWS_PER_GROUP) + TILE - 1) & -TILE
  const before = group * full * field(weight, BLOCKS) + block * heightOf(weight, group)
  return load<usize>(weight, BLOCK_CODES) + <usize>(before >> 1)
}

/** As `levelAt` in packed-weight.ts. */
export function trellisLevelAt(weight: usize, row: i32, segment: usize): f32 {
  if (field(weight, LEVEL_PAIRS) == 0) return 1
  const perGroup = field(weight, ROWS_PER_GROUP)
  const group = row / perGroup
  return levelOf(levelCodesAt(weight, group, load<i32>(segment, 12)), levelsAt(weight), row - group * perGroup)
}

/** Bytes of a stream behind its rows: what a number of its first row reaches into. */
// @ts-expect-error: decorator
@inline
export function tailOf(stateBits: i32, width: i32): i32 {
  return (SHIFT + stateBits - width + 7) >> 3
}

/** Writes the table of elements by number for products: two of 16 bits, those from `half` on; 0 for a second that is not. */
export function writePairs(weight: usize, half: i32): void {
  const d = field(weight, VECTOR_DIM)
  const elements = load<usize>(weight, ELEMENTS) + <usize>(2 * half)
  const count = 1 << field(weight, STATE_BITS)
  if (d == 2 && count >= 4) {
    for (let i = 0; i < count; i += 4) {
      v128.store(PAIRS + (<usize>i << 2), v128.load_ext<i8>(elements + (<usize>i << 1)))
    }
    return
  }
  for (let i = 0; i < count; i++) {
    const element = elements + <usize>(i * d)
    store<i16>(PAIRS + (<usize>i << 2), load<i8>(element))
    store<i16>(PAIRS + (<usize>i << 2), d == 1 ? 0 : load<i8>(element, 1), 2)
  }
}

/** Elements of `rows` rows of one row group, `stride` bytes apart, of `count` vectors from `vector` on. */
export function decodeStreams(weight: usize, row: i32, rows: i32, vector: i32, count: i32, to: usize, stride: usize): void {
  const d = field(weight, VECTOR_DIM)
  if (d == 1) decodeVectors<u8>(weight, row, rows, vector, count, to, stride)
  else if (d == 2) decodeVectors<u16>(weight, row, rows, vector, count, to, stride)
  else decodeVectors<u32>(weight, row, rows, vector, count, to, stride)
}

/** Vectors as wide as `T`. */
function decodeVectors<T>(weight: usize, row: i32, rows: i32, vector: i32, count: i32, to: usize, stride: usize): void {
  const perGroup = field(weight, ROWS_PER_GROUP)
  const group = row / perGroup
  const height = heightOf(weight, group)
  const region = regionAt(weight, group)
  const elements = load<usize>(weight, ELEMENTS)
  const mask: u32 = (1 << field(weight, STATE_BITS)) - 1
  // of the first row: the further down, the fewer
  const codesBelow = height - 1 - (row - group * perGroup)
  let place = load<usize>(weight, PLACES) + <usize>vector * 12
  for (let i = 0; i < count; i++, place += 12, to += sizeof<T>()) {
    const width = load<i32>(place)
    const stream = region + <usize>((height >> 3) * load<i32>(place, 4) + load<i32>(place, 8))
    let bit = SHIFT + codesBelow * width
    let target = to
    for (let j = 0; j < rows; j++, bit -= width, target += stride) {
      const number = (load<u32>(stream + <usize>(bit >> 3)) >> (bit & 7)) & mask
      store<T>(target, load<T>(elements + <usize>number * sizeof<T>()))
    }
  }
}
