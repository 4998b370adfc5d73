import type { TrellisShape } from '../trellis-contract.js'

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

/** Writes what the job `packTrellis` reads: 20 bytes for each codebook. */
export function writePackings(memory: ArrayBufferLike, at: number, packings: readonly Packing[]): void {
  const table = new Int32Array(memory, at, 5 * packings.length)
  for (const [i, { task, plain, packed }] of packings.entries()) {
    table.set([plain, packed, task.vectorDim, task.indexBits, classesOf(task)], 5 * i)
  }
}
