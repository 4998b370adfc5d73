import type { Block } from './contract.js'
import type { TrellisColumns } from './trellis-contract.js'

/** A weight of codes, as it is stored: what the kernels need to multiply by it without expanding it. */
export interface PackedSource {
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** `codeBits` bits per code, least significant bit first, every row starting on a byte; with a trellis see there. */
  readonly codes: Uint8Array
  /** 1 to 16; of no meaning with a trellis. */
  readonly codeBits: number
  /** What codes stand for. */
  readonly values: CodebookValues | GridValues
  /** Column `j` of the codes holds the weights of input `permutation[j]`; undefined: of input `j`. */
  readonly permutation?: Uint32Array
}

/**
 * Codes that name the centroids of vectors; a weight is `element * scale of the group * level of the block`, with a trellis
 * times the factor of its column of vectors.
 */
export interface CodebookValues {
  readonly kind: 'codebooks'
  /** Weights of a code, along a row: 1, 2 or 4. */
  readonly vectorDim: number
  /**
   * Codes of column `v` of vectors have `widths[v]` bits, and the number of a centroid is
   * `(code + 2^widths[v] * number above) mod 2^stateBits`, above the first row of a group 0. Undefined: a code is the number.
   */
  readonly trellis?: TrellisColumns
  readonly rowsPerGroup: number
  /** A multiple of `vectorDim`. */
  readonly columnsPerGroup: number
  /** groups x 2^codeBits x vectorDim; with a trellis 2^stateBits x vectorDim, which all groups share. */
  readonly elements: Int8Array | Float32Array
  /** One per group, row groups x column groups. */
  readonly scales: Float32Array
  /** Undefined: all levels are 1. */
  readonly blocks?: BlockLevels
}

/** Levels of consecutive weights of a row. */
export interface BlockLevels {
  readonly size: number
  /** 4 bits per block, rows byte-aligned: the number of its level. */
  readonly codes: Uint8Array
  /** 16. */
  readonly levels: Float32Array
}

/** Codes that are numbers themselves: a weight is `(code - zero) * scale` of its group; 8 bits at most. */
export interface GridValues {
  readonly kind: 'grid'
  /** Weights of a row that share scale and zero. */
  readonly groupSize: number
  /** Bits of IEEE halves, rows x groups per row. */
  readonly scales: Uint16Array
  /** rows x groups per row. */
  readonly zeros: Uint8Array
}

/** A weight that the kernels have prepared; it takes memory until it is released. */
export interface PackedWeight {
  readonly rows: number
  readonly cols: number
  /** Memory that it takes. */
  readonly bytes: number
}

/**
 * How finely a product sees its operand `x`. `'int16'` and `'int8'`: 15 and 7 bits below the largest of a segment of its row
 * (64 values, say), for speed; `'int8'` 14 bits where products are read from tables. `'float32'`: with few rows 30 bits, at least
 * as good as a product in float32; with more as they are.
 */
export type PackedActivations = 'float32' | 'int16' | 'int8'

/** All values of {@link PackedActivations}, the finest first. */
export const packedActivations: readonly PackedActivations[] = ['float32', 'int16', 'int8']

/** Products with packed weights. */
export interface PackedKernels {
  /**
   * Copies a weight into the kernels' memory, about as large as it is stored.
   *
   * @throws UnsupportedError when the memory, 2 GiB at most, has no room for it
   */
  preparePacked(source: PackedSource): PackedWeight
  /** Gives the memory back; the weight must not be used any more. */
  releasePacked(weight: PackedWeight): void
  /**
   * `Y = X W^T` for X m x cols and Y m x rows, which do not overlap. NaN and infinity in a row of X make what they reach NaN
   * or infinite.
   *
   * With `'int8'` and a weight that {@link readsTables} is true of, X has 14 bits with up to {@link FEW_ROUNDED} rows, and its
   * products with elements are rounded to multiples of 128; with more rows it has 15 bits. The bound below holds too.
   *
   * With activations that are rounded, and with few rows (4 at most), an element is off by at most `2^-22 (|X| |W|^T)_ij` plus
   * `2^-29` (`'float32'`), `2^-15` (`'int16'`) or `2^-7` (`'int8'`) of the sum over segments of `max|x| sum|w|`, W being the
   * expanded weight (with a trellis: its factors on the side of X). In `'float32'` with more rows it is the product of
   * {@link ProductKernels.gemm} with the expanded weight, columns in stored order. `activations` has no effect where elements
   * are float32: those products are in float32.
   *
   * @param activations default `'float32'`
   * @throws ShapeError when the weight was released
   */
  multiplyPacked(m: number, x: Block, weight: PackedWeight, y: Block, activations?: PackedActivations): void
}

/** Rows of X, where they are rounded, up to which a weight without a trellis is not expanded. */
export const FEW_ROUNDED = 3
/** Rows that a codebook must serve so that tables of its products are worth their making. */
const LEAST_ROWS = 48
/** Rows that a table is read for at once. */
export const TABLE_ROWS = 16

/**
 * Whether products are read from tables where activations are `'int8'`: those with weights that {@link isNibbles} is true of and
 * whose codebooks serve many rows, to which no more than a fifth is added to fill the last 16.
 */
export function readsTables(source: PackedSource, segments: readonly Segment[]): boolean {
  if (!isNibbles(source, segments) || source.values.kind === 'grid') return false
  const height = Math.min(source.rows, source.values.rowsPerGroup)
  return height >= LEAST_ROWS && TABLE_ROWS * Math.ceil(height / TABLE_ROWS) <= 1.2 * height
}

/**
 * Whether a weight is of int8 pairs by codes of 4 bits, whose segments are multiples of 64 columns but for the last, and have a
 * block of levels each, where there are any.
 */
export function isNibbles({ codeBits, values }: PackedSource, segments: readonly Segment[]): boolean {
  if (values.kind === 'grid' || values.trellis || values.vectorDim !== 2 || codeBits !== 4) return false
  if (!(values.elements instanceof Int8Array)) return false
  if (segments.some(({ start }) => start % 64 !== 0)) return false
  return !values.blocks || segments.every(({ block }, i) => block === i)
}

/** Consecutive columns that share a scale in every row. */
export interface Segment {
  readonly start: number
  readonly end: number
  /** Number of the column group, or of the group of a grid. */
  readonly group: number
  /** Number of the block of levels; 0 without. */
  readonly block: number
}

/** Columns of a segment at most: sums of so many products of 8 bits, a zero taken off, and 16 bits fit into 32 bits. */
const MOST_COLUMNS = 256

/** The columns of a packed weight, cut wherever in a row a scale may change, and every 256 columns. */
export function segmentsOf({ cols, values }: PackedSource): Segment[] {
  const isGrid = values.kind === 'grid'
  const width = isGrid ? values.groupSize : values.columnsPerGroup
  const blockSize = (isGrid ? undefined : values.blocks?.size) ?? Number.POSITIVE_INFINITY
  const segments: Segment[] = []
  for (let start = 0; start < cols; ) {
    const group = Math.floor(start / width)
    const block = Math.floor(start / blockSize)
    const blockEnd = blockSize === Number.POSITIVE_INFINITY ? cols : (block + 1) * blockSize
    const end = Math.min(cols, (group + 1) * width, blockEnd, start + MOST_COLUMNS)
    segments.push({ start, end, group, block })
    start = end
  }
  return segments
}
