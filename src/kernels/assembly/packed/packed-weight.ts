/** What the host writes of a packed weight (`wasm/packed-weight.ts`): addresses and sizes, 4 bytes each, by their offsets. */
export const ROWS: usize = 0
export const COLS: usize = 4
export const CODES: usize = 8
const ROW_BYTES: usize = 12
export const CODE_BITS: usize = 16
/** Bits of the number of a centroid. */
export const STATE_BITS: usize = 20
export const VECTOR_DIM: usize = 24
export const ROWS_PER_GROUP: usize = 28
export const COLUMNS_PER_GROUP: usize = 32
export const COLUMN_GROUPS: usize = 36
export const ELEMENTS: usize = 40
/** Between the elements of two groups; 0 where all share them. */
const GROUP_BYTES: usize = 44
/** One of the kinds below; 0: int8 elements. */
export const KIND: usize = 48
const SCALES: usize = 52
/** 0: no blocks. */
const BLOCK_SIZE: usize = 56
export const BLOCK_CODES: usize = 60
const BLOCK_ROW_BYTES: usize = 64
const LEVELS: usize = 68
/** Start, end, group and block of each segment. */
const SEGMENTS: usize = 72
export const SEGMENT_COUNT: usize = 76
const ZEROS: usize = 80
export const PERMUTATION: usize = 84
/** For 8 codes in a row: the two bytes that each is in, and what brings it to the top of them. */
export const SPREAD: usize = 96
export const LIFT: usize = 112

/** Activations are rounded and written in so many slots: one for each column, or as the streams of a trellis want them. */
export const SLOTS: usize = 88
/** The column of X of each slot, all bits set for none; 0 where slots are columns. */
export const ORDER: usize = 92
/** What each slot is multiplied by, float32; 0 without a trellis. */
export const FACTORS: usize = 128
/** With a trellis, whose codes lie in streams (`wasm/packed/trellis-streams.ts`): where those of a vector are; 0 without. */
export const PLACES: usize = 132
/** Slots, runs and streams of each segment; 0 where slots are columns. */
export const STRETCHES: usize = 136
/** Width and length of each run of streams. */
export const RUNS: usize = 140
/** Bytes of the streams of a row group of full height. */
export const REGION_BYTES: usize = 144
/** What a trellis multiplies each column by, float32. */
export const COLUMN_FACTORS: usize = 148
/** Blocks of a row. With a trellis their codes go down the rows of a group, block after block, as its streams do. */
export const BLOCKS: usize = 152
/** With slots that are not columns: the two levels of each byte of codes, 0 without levels. */
export const LEVEL_PAIRS: usize = 156

/** Of pairs with codes of 4 bits, which lie in tiles (`wasm/packed/nibble-slots.ts`): rows of one, */
const TILE_ROWS: usize = 160
/** those of a row group, some of which may be there to fill its last tile, */
const GROUP_ROWS: usize = 164
/** and whether codes go down the 16 rows of a tile, as `table-product.ts` reads them. */
const GOES_DOWN: usize = 168
/** Then there are codes of levels down the rows of each tile too, of a segment after the other, and the levels byte by byte. */
export const LEVELS_DOWN: usize = 172
export const LEVEL_PLANES: usize = 176

export const FLOATS: i32 = 1
export const GRID: i32 = 2

// @ts-expect-error: decorator
@inline
export function field(weight: usize, offset: usize): i32 {
  return load<i32>(weight + offset)
}

// @ts-expect-error: decorator
@inline
export function isTrellis(weight: usize): boolean {
  return field(weight, PLACES) != 0
}

/** Whether vectors are single weights of a trellis, which have two slots each, the second one empty. */
// @ts-expect-error: decorator
@inline
export function isOfSingles(weight: usize): boolean {
  return isTrellis(weight) && field(weight, VECTOR_DIM) == 1
}

/** Whether it is one of pairs with codes of 4 bits, whose slots are as `nibble-product.ts` wants them. */
// @ts-expect-error: decorator
@inline
export function hasNibbles(weight: usize): boolean {
  return field(weight, STRETCHES) != 0 && field(weight, PLACES) == 0
}

/** Where the codes of a row are, from a vector on that starts on a byte. */
// @ts-expect-error: decorator
@inline
export function codesAt(weight: usize, row: i32, vector: i32): usize {
  const bits = vector * field(weight, CODE_BITS)
  return load<usize>(weight, CODES) + <usize>row * load<usize>(weight, ROW_BYTES) + <usize>(bits >> 3)
}

/** Rows of the tile that a row of pairs with codes of 4 bits is in: the first of them, */
export function tileStart(weight: usize, row: i32): i32 {
  const below = row % field(weight, ROWS_PER_GROUP)
  return row - (below % field(weight, TILE_ROWS))
}

/** and how many it has. */
export function tileHeight(weight: usize, first: i32): i32 {
  const perGroup = field(weight, ROWS_PER_GROUP)
  const end = min(first - (first % perGroup) + perGroup, field(weight, ROWS))
  return min(first + field(weight, TILE_ROWS), end) - first
}

/** Whether codes of 4 columns of a tile are 16 bytes, one of each row. */
// @ts-expect-error: decorator
@inline
export function goesDown(weight: usize): boolean {
  return field(weight, GOES_DOWN) != 0
}

/** Where the codes of a tile are. */
export function tileAt(weight: usize, first: i32): usize {
  const perGroup = field(weight, ROWS_PER_GROUP)
  const before = (first / perGroup) * field(weight, GROUP_ROWS) + (first % perGroup)
  return load<usize>(weight, CODES) + <usize>before * load<usize>(weight, ROW_BYTES)
}

/** Where the codes of 64 columns of a row of a tile are, */
export function nibblesAt(weight: usize, row: i32): usize {
  const tile = tileStart(weight, row)
  return tileAt(weight, tile) + (<usize>(row - tile) << (goesDown(weight) ? 0 : 4))
}

/** those of the next 64 being so many bytes behind them. */
export function nibblesStep(weight: usize, row: i32): usize {
  return goesDown(weight) ? 256 : <usize>tileHeight(weight, tileStart(weight, row)) << 4
}

/** The codes of 64 columns of a row. */
export function loadNibbles(at: usize, goesDown: boolean): v128 {
  if (!goesDown) return v128.load(at)
  let codes = v128.load8_splat(at)
  codes = v128.load_lane<u8>(at, codes, 1, 16)
  codes = v128.load_lane<u8>(at, codes, 2, 32)
  codes = v128.load_lane<u8>(at, codes, 3, 48)
  codes = v128.load_lane<u8>(at, codes, 4, 64)
  codes = v128.load_lane<u8>(at, codes, 5, 80)
  codes = v128.load_lane<u8>(at, codes, 6, 96)
  codes = v128.load_lane<u8>(at, codes, 7, 112)
  codes = v128.load_lane<u8>(at, codes, 8, 128)
  codes = v128.load_lane<u8>(at, codes, 9, 144)
  codes = v128.load_lane<u8>(at, codes, 10, 160)
  codes = v128.load_lane<u8>(at, codes, 11, 176)
  codes = v128.load_lane<u8>(at, codes, 12, 192)
  codes = v128.load_lane<u8>(at, codes, 13, 208)
  codes = v128.load_lane<u8>(at, codes, 14, 224)
  return v128.load_lane<u8>(at, codes, 15, 240)
}

/** Number of the first group of a row; its other groups follow. */
// @ts-expect-error: decorator
@inline
export function groupsOf(weight: usize, row: i32): i32 {
  return (row / field(weight, ROWS_PER_GROUP)) * field(weight, COLUMN_GROUPS)
}

/** The elements of the centroids of a group. */
// @ts-expect-error: decorator
@inline
export function elementsAt(weight: usize, group: i32): usize {
  return load<usize>(weight, ELEMENTS) + <usize>group * load<usize>(weight, GROUP_BYTES)
}

/** The address of a segment's start, end, group and block. */
// @ts-expect-error: decorator
@inline
export function segmentAt(weight: usize, segment: i32): usize {
  return load<usize>(weight, SEGMENTS) + (<usize>segment << 4)
}

/**
 * With a trellis, where what it says of a segment is: start and end of its slots; first and end of its runs; widths in sum
 * of the streams before, and the bytes that come after their rows.
 */
// @ts-expect-error: decorator
@inline
export function stretchAt(weight: usize, segment: i32): usize {
  return load<usize>(weight, STRETCHES) + <usize>segment * 24
}

/** The address of the start and end of a segment's slots. */
// @ts-expect-error: decorator
@inline
export function slotsOf(weight: usize, segment: i32): usize {
  return field(weight, STRETCHES) != 0 ? stretchAt(weight, segment) : segmentAt(weight, segment)
}

/** Slots of a segment that are multiplied where a strip is expanded: the empty ones of single weights are left out. */
export function filledSlots(weight: usize, segment: i32): i32 {
  const ends = slotsOf(weight, segment)
  const slots = load<i32>(ends, 4) - load<i32>(ends)
  return isOfSingles(weight) ? slots >> 1 : slots
}

/** What the elements of a row in a segment are multiplied by: first this, `groups` being those of the row, */
// @ts-expect-error: decorator
@inline
export function scaleAt(weight: usize, groups: i32, segment: usize): f32 {
  const group = <usize>(groups + load<i32>(segment, 8))
  if (field(weight, KIND) == GRID) return ofHalf(load<u16>(load<usize>(weight, SCALES) + (group << 1)))
  return load<f32>(load<usize>(weight, SCALES) + (group << 2))
}

/** then this. */
// @ts-expect-error: decorator
@inline
export function levelAt(weight: usize, row: i32, segment: usize): f32 {
  const codes = blockCodesAt(weight, row)
  return codes == 0 ? 1 : levelOf(codes, levelsAt(weight), load<i32>(segment, 12))
}

/** The scales of a row's groups, where elements are those of codebooks. */
// @ts-expect-error: decorator
@inline
export function scalesAt(weight: usize, groups: i32): usize {
  return load<usize>(weight, SCALES) + (<usize>groups << 2)
}

/** The codes of a row's blocks, 0 where it has none. */
// @ts-expect-error: decorator
@inline
export function blockCodesAt(weight: usize, row: i32): usize {
  if (field(weight, BLOCK_SIZE) == 0) return 0
  return load<usize>(weight, BLOCK_CODES) + <usize>row * load<usize>(weight, BLOCK_ROW_BYTES)
}

// @ts-expect-error: decorator
@inline
export function levelsAt(weight: usize): usize {
  return load<usize>(weight, LEVELS)
}

// @ts-expect-error: decorator
@inline
export function levelOf(codes: usize, levels: usize, block: i32): f32 {
  const code = (<i32>load<u8>(codes + <usize>(block >> 1)) >> ((block & 1) << 2)) & 15
  return load<f32>(levels + (<usize>code << 2))
}

/** What is taken off the elements of a grid. */
// @ts-expect-error: decorator
@inline
export function zeroAt(weight: usize, groups: i32, segment: usize): i32 {
  const zero = <i32>load<u8>(load<usize>(weight, ZEROS) + <usize>(groups + load<i32>(segment, 8)))
  // codes of 8 bits are decoded as signed numbers
  return field(weight, CODE_BITS) == 8 ? zero - 128 : zero
}

/** A finite half: its exponent is moved by a product, which knows what is below the normal numbers. */
// @ts-expect-error: decorator
@inline
function ofHalf(half: u16): f32 {
  const magnitude = reinterpret<f32>((<u32>half & 0x7fff) << 13) * reinterpret<f32>(0x77800000)
  return half & 0x8000 ? -magnitude : magnitude
}
