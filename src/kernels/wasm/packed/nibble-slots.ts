import { packedRowBytes } from '../../bits.js'
import type { PackedSource, Segment } from '../../packed-contract.js'

/** Columns whose codes are in 16 bytes. */
const AT_ONCE = 64
/** Rows of a tile at most. */
const TILE_ROWS = 32

/** How `assembly/packed/nibble-product.ts` multiplies pairs with codes of 4 bits. */
export interface NibbleSlots {
  /** Codes of 64 columns of all rows of a tile, 16 bytes each, then those of the next 64: they are read from end to end. */
  readonly codes: Uint8Array
  /** The column of X of each slot, -1 for none. */
  readonly order: Int32Array
  /** Start and end of each segment's slots, and nothing else: as large as those of a trellis. */
  readonly stretches: Int32Array
  /** Of each codebook its 16 first elements, then the second ones. */
  readonly elements: Int8Array
  /** What two codes of levels in a byte stand for; empty without levels. */
  readonly levelPairs: Float32Array
}

/** Rows of a row group that are multiplied together, all tiles of a row group but the last. */
export function nibbleTileRows({ rows }: PackedSource, rowsPerGroup: number): number {
  const height = Math.min(rows, rowsPerGroup)
  return Math.ceil(height / Math.ceil(height / TILE_ROWS))
}

/**
 * Slots for a weight that {@link NibbleSlots} can multiply, else undefined: int8 pairs by codes of 4 bits, whose segments are
 * multiples of 64 columns but for the last, and have a block of levels each, where there are any.
 */
export function nibbleSlots(source: PackedSource, segments: readonly Segment[]): NibbleSlots | undefined {
  const { codeBits, values, permutation } = source
  if (values.kind === 'grid' || values.trellis || values.vectorDim !== 2 || codeBits !== 4) return undefined
  const { elements, blocks } = values
  if (!(elements instanceof Int8Array) || segments.some(({ start }) => start % AT_ONCE !== 0))
    return undefined
  if (blocks && segments.some(({ block }, i) => block !== i)) return undefined
  const order = new Int32Array(AT_ONCE * Math.ceil(source.cols / AT_ONCE)).fill(-1)
  for (let column = 0; column < source.cols; column++) {
    order[slotOf(column)] = permutation ? permutation[column] : column
  }
  const stretches = new Int32Array(6 * segments.length)
  for (const [i, { start, end }] of segments.entries()) {
    stretches.set([start, AT_ONCE * Math.ceil(end / AT_ONCE)], 6 * i)
  }
  const codes = tiled(source, values.rowsPerGroup)
  return { codes, order, stretches, elements: apart(elements), levelPairs: pairsOf(blocks?.levels) }
}

function tiled(source: PackedSource, rowsPerGroup: number): Uint8Array {
  const { rows, cols, codes } = source
  const from = packedRowBytes(Math.ceil(cols / 2), 4)
  const chunks = Math.ceil(cols / AT_ONCE)
  const most = nibbleTileRows(source, rowsPerGroup)
  const laid = new Uint8Array(16 * chunks * rows)
  for (let first = 0; first < rows; ) {
    const group = first - (first % rowsPerGroup)
    const height = Math.min(first + most, group + rowsPerGroup, rows) - first
    for (let row = 0; row < height; row++) {
      const own = codes.subarray((first + row) * from, (first + row + 1) * from)
      const to = 16 * (first * chunks + row)
      for (let i = 0; i < from; i++) laid[to + 16 * height * (i >> 4) + (i & 15)] = own[i]
    }
    first += height
  }
  return laid
}

/** Of 64 columns: first elements of even pairs, second ones, then those of odd pairs. */
function slotOf(column: number): number {
  const within = column % AT_ONCE
  const pair = within >> 1
  return column - within + 32 * (pair & 1) + 16 * (within & 1) + (pair >> 1)
}

function apart(elements: Int8Array): Int8Array {
  return elements.map((_, i) => elements[(i & ~31) + 2 * (i & 15) + ((i >> 4) & 1)])
}

/** The two levels of each byte of codes. */
export function pairsOf(levels: Float32Array | undefined): Float32Array {
  if (levels === undefined) return new Float32Array(0)
  return Float32Array.from({ length: 512 }, (_, i) => levels[((i >> 1) >> (4 * (i & 1))) & 15])
}
