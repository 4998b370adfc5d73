import { packedRowBytes } from '../../bits.js'
import {
  type BlockLevels,
  isNibbles,
  type PackedSource,
  readsTables,
  type Segment,
  TABLE_ROWS,
} from '../../packed-contract.js'

/** Columns whose codes are in 16 bytes. */
const AT_ONCE = 64
/** Rows of a tile at most. */
const TILE_ROWS = 32

/** How `assembly/packed/nibble-product.ts` multiplies pairs with codes of 4 bits. */
export interface NibbleSlots {
  /**
   * Codes of 64 columns of all rows of a tile, then those of the next 64: they are read from end to end. A row's are 16 bytes;
   * where codes go down, 16 bytes are the codes of 4 columns, one of each row.
   */
  readonly codes: Uint8Array
  /** The column of X of each slot, -1 for none. */
  readonly order: Int32Array
  /** Start and end of each segment's slots, and nothing else: as large as those of a trellis. */
  readonly stretches: Int32Array
  /** Of each codebook its 16 first elements, then the second ones. */
  readonly elements: Int8Array
  /** What two codes of levels in a byte stand for; empty without levels. */
  readonly levelPairs: Float32Array
  /**
   * Where codes go down and there are levels: of each segment of a tile the codes of its rows, those of rows 0, 4, 8 and 12
   * first; bytes of the levels, the first of each, then the second.
   */
  readonly levelsDown: Uint8Array
  readonly levelPlanes: Uint8Array
}

/** How rows of a row group lie together. */
export interface NibbleTiles {
  readonly rowsPerGroup: number
  /** Rows of each tile of a row group but the last. */
  readonly tileRows: number
  /** Rows of a row group, with those that fill its last tile where codes go down. */
  readonly groupRows: number
  /** `assembly/packed/table-product.ts` multiplies too. */
  readonly goesDown: boolean
}

/** Codes go down tiles where products are read from tables. */
function nibbleTiles(source: PackedSource, rowsPerGroup: number, segments: readonly Segment[]): NibbleTiles {
  const height = Math.min(source.rows, rowsPerGroup)
  if (readsTables(source, segments)) {
    const groupRows = TABLE_ROWS * Math.ceil(height / TABLE_ROWS)
    return { rowsPerGroup, tileRows: TABLE_ROWS, groupRows, goesDown: true }
  }
  const tileRows = Math.ceil(height / Math.ceil(height / TILE_ROWS))
  return { rowsPerGroup, tileRows, groupRows: rowsPerGroup, goesDown: false }
}

/** Slots for a weight that {@link NibbleSlots} can multiply, else undefined. */
export function nibbleSlots(
  source: PackedSource,
  segments: readonly Segment[],
): { readonly arrays: NibbleSlots; readonly tiles: NibbleTiles } | undefined {
  const { values, permutation } = source
  if (!isNibbles(source, segments) || values.kind === 'grid') return undefined
  const elements = values.elements as Int8Array
  const { blocks } = values
  const order = new Int32Array(AT_ONCE * Math.ceil(source.cols / AT_ONCE)).fill(-1)
  for (let column = 0; column < source.cols; column++) {
    order[slotOf(column)] = permutation ? permutation[column] : column
  }
  const stretches = new Int32Array(6 * segments.length)
  for (const [i, { start, end }] of segments.entries()) {
    stretches.set([start, AT_ONCE * Math.ceil(end / AT_ONCE)], 6 * i)
  }
  const tiles = nibbleTiles(source, values.rowsPerGroup, segments)
  const codes = tiled(source, tiles)
  const isDown = blocks && tiles.goesDown
  const arrays = {
    ...{ codes, order, stretches, elements: apart(elements), levelPairs: pairsOf(blocks?.levels) },
    levelsDown: isDown ? levelsDown(source.rows, tiles, segments.length, blocks) : new Uint8Array(0),
    levelPlanes: isDown ? planesOf(blocks.levels) : new Uint8Array(0),
  }
  return { arrays, tiles }
}

function tiled(source: PackedSource, tiles: NibbleTiles): Uint8Array {
  const { rows, cols, codes } = source
  const from = packedRowBytes(Math.ceil(cols / 2), 4)
  const chunks = Math.ceil(cols / AT_ONCE)
  const { rowsPerGroup, tileRows: most, groupRows, goesDown } = tiles
  const groups = Math.ceil(rows / rowsPerGroup)
  const lastRows = rows - (groups - 1) * rowsPerGroup
  const lastFilled = goesDown ? TABLE_ROWS * Math.ceil(lastRows / TABLE_ROWS) : lastRows
  const laid = new Uint8Array(16 * chunks * ((groups - 1) * groupRows + lastFilled))
  const [rowStep, byteStep] = goesDown ? [1, TABLE_ROWS] : [16, 1]
  for (let first = 0; first < rows; ) {
    const group = first - (first % rowsPerGroup)
    const height = Math.min(first + most, group + rowsPerGroup, rows) - first
    const tile = (group / rowsPerGroup) * groupRows + first - group
    const step = goesDown ? 16 * TABLE_ROWS : 16 * height
    for (let row = 0; row < height; row++) {
      const own = codes.subarray((first + row) * from, (first + row + 1) * from)
      const to = 16 * chunks * tile + rowStep * row
      for (let i = 0; i < from; i++) laid[to + step * (i >> 4) + byteStep * (i & 15)] = own[i]
    }
    first += height
  }
  return laid
}

function levelsDown(
  rows: number,
  { rowsPerGroup, groupRows }: NibbleTiles,
  segments: number,
  { codes }: BlockLevels,
): Uint8Array {
  const groups = Math.ceil(rows / rowsPerGroup)
  const down = new Uint8Array((groups * groupRows * segments) / 2)
  const rowBytes = packedRowBytes(segments, 4)
  for (let row = 0; row < rows; row++) {
    const below = row % rowsPerGroup
    const tile = (Math.floor(row / rowsPerGroup) * groupRows + below) >> 4
    const place = 4 * (below & 3) + ((below & 15) >> 2)
    for (let segment = 0; segment < segments; segment++) {
      const code = (codes[row * rowBytes + (segment >> 1)] >> (4 * (segment & 1))) & 15
      down[8 * (tile * segments + segment) + (place & 7)] |= code << ((place >> 3) << 2)
    }
  }
  return down
}

function planesOf(levels: Float32Array): Uint8Array {
  const bytes = new Uint8Array(levels.slice().buffer)
  return bytes.map((_, i) => bytes[4 * (i & 15) + (i >> 4)])
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
