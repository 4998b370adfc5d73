import type { TrellisColumns, TrellisShape } from '../../trellis-contract.js'

/** Rows of short paths that one tile takes together: what a codebook's norms cost is then little beside the search. */
const TILE_ROWS = 128
/** Bytes of minima that a thread keeps; a longer path is swept twice, window by window. */
export const WINDOW_BYTES = 2 ** 24
/** Bytes of scratch for the values of one vector. */
const VECTOR_BYTES = 256
/** Bytes of what a row weighs keys by. */
const ROW_BYTES = 32

/** Keys that differ in their oldest index alone count as one. */
export function classesOf({ stateBits, indexBits }: TrellisShape): number {
  return 2 ** (stateBits - indexBits)
}

/** Bytes of the minima of one row; a register holds four. */
function bytesOfMinima(shape: TrellisShape): number {
  return 4 * Math.max(4, classesOf(shape))
}

/** Bytes of the packed codebook: norms and centroids in the order of the sweep. */
export function bytesOfPacked(shape: TrellisShape, d: number): number {
  return bytesOfMinima(shape) * 2 ** shape.indexBits * (d + 1)
}

/** Rows whose minima are kept at once, of paths of `height` rows. */
export function windowOf(shape: TrellisShape, height: number, most: number): number {
  return Math.max(1, Math.min(height, Math.floor(most / bytesOfMinima(shape))))
}

/** Scratch of a thread for tiles of `rows` rows, whose longest path has `height`. */
export function bytesOfScratch(
  shape: TrellisShape,
  d: number,
  rows: number,
  height: number,
  window: number,
): number {
  const keys = Math.ceil((2 * rows) / 16) * 16
  const minima = bytesOfMinima(shape) * (window + 1 + Math.ceil(height / window))
  return VECTOR_BYTES + bytesOfPacked(shape, d) + ROW_BYTES * (rows + 1) + keys + minima
}

/** The packed forms that the columns of a block need of one codebook: one for each width of an index. */
export interface PackedShapes {
  readonly list: readonly { readonly shape: TrellisShape; readonly offset: number }[]
  /** Of all of them. */
  readonly bytes: number
}

export function packedShapes({
  stateBits,
  widths,
  vectorDim,
}: TrellisColumns & { readonly vectorDim: number }): PackedShapes {
  let bytes = 0
  const list = [...new Set(widths)]
    .sort((a, b) => a - b)
    .map((indexBits) => {
      const shape = { indexBits, stateBits }
      const offset = bytes
      bytes += bytesOfPacked(shape, vectorDim)
      return { shape, offset }
    })
  return { list, bytes }
}

/** Bytes of what the kernels read of each column of vectors. */
export const COLUMN_BYTES = 12

/** Writes for each column of vectors its width, where its packed codebook lies among those of a row group, its factor. */
export function writeColumns(
  memory: ArrayBufferLike,
  at: number,
  { widths, factors }: TrellisColumns,
  { list }: PackedShapes,
): void {
  const view = new DataView(memory, at, COLUMN_BYTES * widths.length)
  for (const [i, width] of widths.entries()) {
    const { offset } = list.find(({ shape }) => shape.indexBits === width)!
    view.setInt32(COLUMN_BYTES * i, width, true)
    view.setInt32(COLUMN_BYTES * i + 4, offset, true)
    view.setFloat32(COLUMN_BYTES * i + 8, factors[i], true)
  }
}

/** A thread's scratch for blocks of columns, whose parts have room for every width. */
export function roomOf(
  { list }: PackedShapes,
  d: number,
  rows: number,
  height: number,
  windowBytes: number,
): { window: number; packedBytes: number; tableBytes: number; bytes: number } {
  // the narrowest index has the most classes
  const widest = list[0].shape
  const window = windowOf(widest, height, windowBytes)
  const packedBytes = Math.max(...list.map(({ shape }) => bytesOfPacked(shape, d)))
  const tableBytes = bytesOfMinima(widest) * (window + 1)
  const startBytes = bytesOfMinima(widest) * Math.ceil(height / window)
  const own = VECTOR_BYTES + ROW_BYTES * (rows + 1) + Math.ceil((2 * rows) / 16) * 16
  return { window, packedBytes, tableBytes, bytes: own + packedBytes + tableBytes + startBytes }
}

/** Rows of a tile: as many whole paths of `height` as make a good one. */
export function tileRowsOf(height: number): number {
  return height * Math.max(1, Math.floor(TILE_ROWS / height))
}

/** The power of two below the largest value of a metric: dividing by it rounds nothing and moves no key past another. */
export function unitOf(metric: Float64Array): number {
  let largest = 0
  for (const value of metric) largest = Math.max(largest, value)
  return largest > 0 && largest < Infinity ? 2 ** Math.floor(Math.log2(largest)) : 1
}

/** A codebook in the kernels' memory, and where its packed form goes. */
export interface Packing {
  readonly task: TrellisShape & { readonly vectorDim: number }
  readonly plain: number
  readonly packed: number
}

/** Bytes of what the job `packTrellis` reads of each codebook. */
export const PACKING_BYTES = 20

/** Writes what the job `packTrellis` reads. */
export function writePackings(memory: ArrayBufferLike, at: number, packings: readonly Packing[]): void {
  const table = new Int32Array(memory, at, 5 * packings.length)
  for (const [i, { task, plain, packed }] of packings.entries()) {
    table.set([plain, packed, task.vectorDim, task.indexBits, classesOf(task)], 5 * i)
  }
}
