import { constantCodebook, widthFactor } from '../codebook/constant-codebook.js'
import {
  type CodebookBits,
  type CodebookElements,
  codebookElements,
  loadCodebook,
} from '../codebook/store-codebook.js'
import { requireFields } from '../common/check-option.js'
import { ShapeError } from '../common/errors.js'
import { type Matrix, matrix } from '../common/matrix.js'
import { packedRowBytes, raggedRowBytes } from '../kernels/bits.js'
import type { TrellisColumns } from '../kernels/trellis-contract.js'
import { type BlockScales, decodeScales, multiplyByScales } from './block-scales.js'
import { requirePermutation, restoreColumns } from './permutation.js'

/**
 * How a layer's weights are cut into vectors and groups. A group, which shares a codebook, is some columns by some rows;
 * shapes need not divide.
 */
export interface VqLayout {
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** Weights per vector, along a row. */
  readonly vectorDim: number
  /** Index bits per weight. Without a trellis an index has `bits * vectorDim` bits, with one it has so on average. */
  readonly bits: number
  /** Undefined: plain codebooks. */
  readonly trellis?: Trellis
  /** A group spans this many columns, a multiple of `vectorDim`; the last one of a row may be narrower. */
  readonly columnsPerGroup: number
  /** A group spans this many rows; the last one may be lower. */
  readonly rowsPerGroup: number
  /** Consecutive weights of a row that share a scale, a divisor of `columnsPerGroup`; undefined: no scales. */
  readonly scaleBlockSize?: number
}

/**
 * A trellis code. The key of a vector, `(index + 2^w * key above) mod 2^keyBits`, is the number of its centroid, where `w`
 * is the width of its index; above the first row of a group the key is 0. All centroids are those of the constant
 * codebook, times the factor that goes with the width.
 */
export interface Trellis {
  /** Bits of a key, 12 at most. */
  readonly keyBits: number
  /** Bits of an index in each column of vectors, 1 to `keyBits`. */
  readonly widths: Uint8Array
}

/** A vector-quantized layer in its stored values: what is written, and what decodes to the same floats everywhere. */
export interface VqLayer {
  /** How the layer is cut into vectors and groups. */
  readonly layout: VqLayout
  /** rows x vectorsPerRow, each less than k: numbers of centroids; with a trellis keys. */
  readonly indices: Uint16Array
  /** Bits of a stored codebook element: 8 (integers) or 16 (IEEE halves). */
  readonly codebookBits: CodebookBits
  /**
   * Stored elements, groups x k x vectorDim; group (i, j) of row group i and column group j is number `i * columnGroups + j`.
   * With a trellis: k x vectorDim, the constant codebook, not to be changed.
   */
  readonly codebooks: CodebookElements
  /** One per group, each a bfloat16 number; a codebook's value is `element * scale`. */
  readonly codebookScales: Float32Array
  /** Where the layout has a `scaleBlockSize`: a weight is its codebook's value times the scale of its block. */
  readonly blockScales?: BlockScales
  /**
   * Where columns were reordered: column `j` of all above holds the weights of input `permutation[j]`. Vectors, groups
   * and blocks are formed in this order.
   */
  readonly permutation?: Uint32Array
}

/** Bits that an index of a layer without a trellis takes. */
export function indexBitsOf({ bits, vectorDim }: VqLayout): number {
  return bits * vectorDim
}

/** Bytes of a row of stored indices. */
export function indexRowBytes(layout: VqLayout): number {
  if (layout.trellis) return raggedRowBytes(layout.trellis.widths)
  return packedRowBytes(vectorsPerRow(layout), indexBitsOf(layout))
}

/** Centroids per codebook, `2^(bits * vectorDim)`, with a trellis `2^keyBits`. */
export function centroidsOf(layout: VqLayout): number {
  return 2 ** (layout.trellis?.keyBits ?? indexBitsOf(layout))
}

/** Whether a layer's codebooks are all the constant one, each with a scale of its own. */
export function isTrellis({ trellis }: VqLayout): boolean {
  return trellis !== undefined
}

/** What the kernels need to know of the trellis of columns `start` to `end`; undefined for a layer without. */
export function trellisColumns(
  { trellis, vectorDim }: VqLayout,
  start: number,
  end: number,
): TrellisColumns | undefined {
  if (trellis === undefined) return undefined
  const widths = trellis.widths.subarray(start / vectorDim, Math.ceil(end / vectorDim))
  const factors = Float32Array.from(widths, (width) => widthFactor(vectorDim, width))
  return { stateBits: trellis.keyBits, widths, factors }
}

/** Vectors in a row; the last is padded when `cols` is not a multiple of `vectorDim`. */
export function vectorsPerRow(layout: VqLayout): number {
  return Math.ceil(layout.cols / layout.vectorDim)
}

/** Blocks of a row that have a scale, the last one perhaps shorter; 0 without scales. */
export function blocksPerRow({ cols, scaleBlockSize }: VqLayout): number {
  return scaleBlockSize === undefined ? 0 : Math.ceil(cols / scaleBlockSize)
}

/** Groups side by side. */
export function columnGroupsOf(layout: VqLayout): number {
  return Math.ceil(layout.cols / layout.columnsPerGroup)
}

/** Groups one above the other. */
export function rowGroupsOf(layout: VqLayout): number {
  return Math.ceil(layout.rows / layout.rowsPerGroup)
}

/** A layer of zeros, to be filled. @param scaleRatio of its scales, for a layout that has them */
export function emptyLayer(layout: VqLayout, codebookBits: CodebookBits, scaleRatio = 0.5): VqLayer {
  const groups = rowGroupsOf(layout) * columnGroupsOf(layout)
  const size = centroidsOf(layout) * layout.vectorDim
  return {
    layout,
    indices: new Uint16Array(layout.rows * vectorsPerRow(layout)),
    codebookBits,
    codebooks: isTrellis(layout)
      ? constantCodebook(layout.vectorDim, centroidsOf(layout))
      : codebookElements(codebookBits, groups * size),
    codebookScales: new Float32Array(groups),
    ...(layout.scaleBlockSize !== undefined && {
      blockScales: { codes: new Uint8Array(layout.rows * blocksPerRow(layout)), ratio: scaleRatio },
    }),
  }
}

/** All codebooks as floats, groups x k x vectorDim; `layout` must be there for a layer with a trellis. */
export function decodeCodebooks(
  layer: Pick<VqLayer, 'codebooks' | 'codebookScales'> & Partial<Pick<VqLayer, 'layout'>>,
): Float32Array {
  requireFields(layer, 'a layer that quantizeLayer gave', ['codebooks', 'codebookScales'])
  const { layout, codebooks, codebookScales } = layer
  const isConstant = layout !== undefined && isTrellis(layout)
  const size = codebooks.length / (isConstant ? 1 : codebookScales.length)
  const decoded = new Float32Array(codebookScales.length * size)
  for (let group = 0; group < codebookScales.length; group++) {
    const at = group * size
    loadCodebook(codebooks, isConstant ? 0 : at, codebookScales[group], decoded.subarray(at, at + size))
  }
  return decoded
}

/** The codebook of one group as floats, k x vectorDim. */
export function decodeCodebook(
  { layout, codebooks, codebookScales }: Pick<VqLayer, 'layout' | 'codebooks' | 'codebookScales'>,
  group: number,
  decoded: Float32Array,
): void {
  const at = isTrellis(layout) ? 0 : group * centroidsOf(layout) * layout.vectorDim
  loadCodebook(codebooks, at, codebookScales[group], decoded)
}

/**
 * The scales of all blocks as floats, rows x blocksPerRow; undefined for a layer without.
 *
 * @throws ShapeError when layout and scales do not belong together
 */
export function decodeBlockScales({ layout, blockScales }: VqLayer): Float32Array | undefined {
  const found = blockScales?.codes.length ?? 0
  const expected = layout.rows * blocksPerRow(layout)
  if (found !== expected) {
    throw new ShapeError(
      `block scales: found ${found} codes, a ${layout.rows} x ${layout.cols} layer with scaleBlockSize ` +
        `${layout.scaleBlockSize} needs ${expected}`,
    )
  }
  return blockScales && decodeScales(blockScales)
}

/**
 * The float32 weights (rows x cols) that a layer stands for.
 *
 * @throws ShapeError when layout and block scales do not belong together, or the permutation is none
 */
export function dequantizeLayer(layer: VqLayer): Matrix {
  requireFields(layer, 'a layer that quantizeLayer gave', [
    'layout',
    'indices',
    'codebooks',
    'codebookScales',
  ])
  const { layout, indices, permutation } = layer
  if (permutation) requirePermutation(permutation, layout.cols)
  const result = matrix(layout.rows, layout.cols)
  const scales = decodeBlockScales(layer)
  lookUp(layout, indices, decodeCodebooks(layer), scales, 0, layout.rows, result.data)
  if (permutation) restoreColumns(result.data, permutation)
  return result
}

/** Rows `first` to `first + count - 1`, which are in one row group, as a layer of their own; its arrays are views. */
export function vqRows(layer: VqLayer, first: number, count: number): VqLayer {
  const { layout, indices, codebooks, codebookScales, blockScales } = layer
  const [perRow, blocks] = [vectorsPerRow(layout), blocksPerRow(layout)]
  const groups = columnGroupsOf(layout)
  const group = groups * Math.floor(first / layout.rowsPerGroup)
  const size = centroidsOf(layout) * layout.vectorDim
  return {
    ...layer,
    layout: { ...layout, rows: count },
    indices: indices.subarray(first * perRow, (first + count) * perRow),
    codebooks: isTrellis(layout) ? codebooks : codebooks.subarray(group * size, (group + groups) * size),
    codebookScales: codebookScales.subarray(group, group + groups),
    ...(blockScales && {
      blockScales: {
        ...blockScales,
        codes: blockScales.codes.subarray(first * blocks, (first + count) * blocks),
      },
    }),
  }
}

/**
 * Writes the weights of rows `firstRow` to `lastRow` to `target` ((lastRow - firstRow) x cols): each vector the
 * centroid its index names in its group's codebook, with a trellis times the factor of its column, times the scale of its
 * block.
 *
 * @param indices of the whole layer
 * @param codebooks of the whole layer as floats, groups x k x vectorDim
 * @param scales of the whole layer, rows x blocksPerRow, undefined without
 */
export function lookUp(
  layout: VqLayout,
  indices: Uint16Array,
  codebooks: Float32Array,
  scales: Float32Array | undefined,
  firstRow: number,
  lastRow: number,
  target: Float32Array,
): void {
  const { cols, columnsPerGroup, scaleBlockSize } = layout
  const columnGroups = columnGroupsOf(layout)
  for (let r = firstRow; r < lastRow; r++) {
    const to = (r - firstRow) * cols
    for (let g = 0; g < columnGroups; g++) {
      lookUpRun(layout, indices, codebooks, undefined, r, g, target, to + g * columnsPerGroup)
    }
    if (scales && scaleBlockSize) {
      multiplyByScales(target, to, to + cols, scales, r * blocksPerRow(layout), scaleBlockSize)
    }
  }
}

/**
 * As {@link lookUp}, the weights of one row in one column group alone, which starts with a block of scales; they go to
 * `target` from `to` on.
 */
export function lookUpRun(
  layout: VqLayout,
  indices: Uint16Array,
  codebooks: Float32Array,
  scales: Float32Array | undefined,
  row: number,
  columnGroup: number,
  target: Float32Array,
  to: number,
): void {
  const { cols, vectorDim: d, rowsPerGroup, columnsPerGroup, scaleBlockSize } = layout
  const start = columnGroup * columnsPerGroup
  const end = to + Math.min(columnsPerGroup, cols - start)
  const group = Math.floor(row / rowsPerGroup) * columnGroupsOf(layout) + columnGroup
  const codebook = group * centroidsOf(layout) * d
  copyCentroids(codebooks, codebook, d, indices, row * vectorsPerRow(layout) + start / d, target, to, end)
  if (layout.trellis) multiplyByFactors(layout.trellis.widths, start / d, d, target, to, end)
  if (scales && scaleBlockSize) {
    const block = row * blocksPerRow(layout) + start / scaleBlockSize
    multiplyByScales(target, to, end, scales, block, scaleBlockSize)
  }
}

/** Multiplies vectors, that of `target[from]` in column `first`, by the factors of their columns: that is exact. */
function multiplyByFactors(
  widths: Uint8Array,
  first: number,
  d: number,
  target: Float32Array,
  from: number,
  end: number,
): void {
  for (let at = from, vector = first; at < end; at += d, vector++) {
    const factor = widthFactor(d, widths[vector])
    for (let a = at; a < Math.min(at + d, end); a++) target[a] *= factor
  }
}

/** Fills `target` from `start` to `end` with the centroids that consecutive indices name; the last may be cut short. */
function copyCentroids(
  codebooks: Float32Array,
  codebook: number,
  d: number,
  indices: Uint16Array,
  index: number,
  target: Float32Array,
  start: number,
  end: number,
): void {
  let i = index
  let at = start
  if (d === 2) {
    for (; at + 2 <= end; at += 2) {
      const centroid = codebook + 2 * indices[i++]
      target[at] = codebooks[centroid]
      target[at + 1] = codebooks[centroid + 1]
    }
  }
  for (; at < end; at += d) {
    const centroid = codebook + d * indices[i++]
    const width = Math.min(d, end - at)
    for (let a = 0; a < width; a++) target[at + a] = codebooks[centroid + a]
  }
}
