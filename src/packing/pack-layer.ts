import { constantCodebook } from '../codebook/constant-codebook.js'
import type { CodebookElements } from '../codebook/store-codebook.js'
import { requireFields } from '../common/check-option.js'
import { packedRowBytes, packIndices, packRagged, unpackIndices, unpackRagged } from '../kernels/bits.js'
import { decodeBfloats, encodeBfloats } from '../kernels/half.js'
import { type BlockScales, SCALE_BITS } from './block-scales.js'
import { packPermutation, permutationBytes, unpackPermutation } from './permutation.js'
import { requireLength } from './require-length.js'
import { requireTrellis } from './require-trellis.js'
import { indicesOfKeys, keysOfIndices, WIDTH_BITS, widthBytes } from './trellis-keys.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  indexBitsOf,
  indexRowBytes,
  isTrellis,
  rowGroupsOf,
  type VqLayer,
  type VqLayout,
  vectorsPerRow,
} from './vq-layer.js'

/** The arrays of a layer exactly as a checkpoint stores them. */
export interface PackedLayer {
  /** How the layer is cut; all lengths follow from it. */
  readonly layout: VqLayout
  /** `bits * vectorDim` bits per vector, with a trellis as many as its column has, least significant first, rows byte-aligned. */
  readonly indices: Uint8Array
  /** groups x k x vectorDim; empty with a trellis, whose codebook is constant. */
  readonly codebooks: CodebookElements
  /** groups, the bits of bfloat16 numbers. */
  readonly codebookScales: Uint16Array
  /** Only in a layer with scales. */
  readonly blockScales?: PackedScales
  /** Only in a layer whose columns were reordered: `ceil(log2(cols))` bits a column, least significant bit first. */
  readonly permutation?: Uint8Array
  /** Only with a trellis: the widths of `layout` less 1, 4 bits each, the first in the low half of a byte. */
  readonly widths?: Uint8Array
}

/** {@link BlockScales} as a checkpoint stores them. */
export interface PackedScales {
  /** 4 bits per block, two blocks a byte, the first in the low half, rows byte-aligned. */
  readonly codes: Uint8Array
  /** One value. */
  readonly ratio: Float32Array
}

/**
 * Packs a layer's indices; {@link unpackLayer} gives back the same layer.
 *
 * @throws ShapeError for keys of a trellis that do not follow from each other
 */
export function packLayer(layer: VqLayer): PackedLayer {
  requireFields(layer, 'a layer that quantizeLayer gave', [
    'layout',
    'indices',
    'codebooks',
    'codebookScales',
  ])
  const { layout, codebooks, codebookScales, blockScales, permutation } = layer
  const indices = new Uint8Array(layout.rows * indexRowBytes(layout))
  if (layout.trellis) {
    packRagged(indicesOfKeys(layout, layer.indices), layout.rows, layout.trellis.widths, indices)
  } else packIndices(layer.indices, layout.rows, vectorsPerRow(layout), indexBitsOf(layout), indices)
  const scales = new Uint16Array(codebookScales.length)
  encodeBfloats(codebookScales, scales)
  return {
    layout,
    indices,
    codebooks: isTrellis(layout) ? new Int8Array(0) : codebooks,
    codebookScales: scales,
    ...(blockScales && { blockScales: packScales(layout, blockScales) }),
    ...(permutation && { permutation: packPermutation(permutation) }),
    ...(layout.trellis && { widths: packWidths(layout.trellis.widths) }),
  }
}

/**
 * Checks that the lengths of all arrays follow from the layout, and that its trellis is one.
 *
 * @throws ShapeError naming the array that has another
 */
export function requirePackedLayer({
  layout,
  indices,
  codebooks,
  codebookScales,
  blockScales,
  permutation,
  widths,
}: PackedLayer): void {
  const { rows, cols } = layout
  const groups = rowGroupsOf(layout) * columnGroupsOf(layout)
  const owner =
    `a ${rows} x ${cols} layer of ${layout.vectorDim}-D vectors with ${layout.bits} bits and groups of ` +
    `${layout.rowsPerGroup} x ${layout.columnsPerGroup}`
  requireLength(
    'stored widths',
    widths?.length ?? 0,
    layout.trellis ? widthBytes(vectorsPerRow(layout)) : 0,
    owner,
  )
  requireTrellis(layout, widths && unpackWidths(widths, vectorsPerRow(layout)), owner)
  requireLength('indices', indices.length, rows * indexRowBytes(layout), owner)
  const stored = isTrellis(layout) ? 0 : groups * centroidsOf(layout) * layout.vectorDim
  requireLength('codebooks', codebooks.length, stored, owner)
  requireLength('codebook scales', codebookScales.length, groups, owner)
  const scaleBytes = rows * packedRowBytes(blocksPerRow(layout), SCALE_BITS)
  requireLength('block scales', blockScales?.codes.length ?? 0, scaleBytes, owner)
  if (blockScales) requireLength('scale ratio', blockScales.ratio.length, 1, owner)
  if (permutation) requireLength('permutation', permutation.length, permutationBytes(cols), owner)
}

/**
 * The inverse of {@link packLayer}.
 *
 * @throws ShapeError when an array's length does not follow from the layout, or the permutation is none
 */
export function unpackLayer(packed: PackedLayer): VqLayer {
  requireFields(packed, 'a layer that packLayer gave', ['layout', 'indices', 'codebooks', 'codebookScales'])
  requirePackedLayer(packed)
  const { layout } = packed
  const perRow = vectorsPerRow(layout)
  const indices = new Uint16Array(layout.rows * perRow)
  if (layout.trellis) {
    unpackRagged(packed.indices, layout.rows, layout.trellis.widths, indices)
    keysOfIndices(layout, indices)
  } else unpackIndices(packed.indices, layout.rows, perRow, indexBitsOf(layout), indices)
  const codebooks = isTrellis(layout)
    ? constantCodebook(layout.vectorDim, centroidsOf(layout))
    : packed.codebooks
  const blockScales = packed.blockScales && unpackScales(layout, packed.blockScales)
  const codebookScales = new Float32Array(packed.codebookScales.length)
  decodeBfloats(packed.codebookScales, codebookScales)
  return {
    layout,
    indices,
    codebookBits: codebooks instanceof Int8Array ? 8 : 16,
    codebooks,
    codebookScales,
    ...(blockScales && { blockScales }),
    ...(packed.permutation && { permutation: unpackPermutation(packed.permutation, layout.cols) }),
  }
}

/** The widths of a trellis' columns as they are stored. */
export function packWidths(widths: Uint8Array): Uint8Array {
  const packed = new Uint8Array(widthBytes(widths.length))
  packIndices(
    widths.map((width) => width - 1),
    1,
    widths.length,
    WIDTH_BITS,
    packed,
  )
  return packed
}

/** The inverse of {@link packWidths}. */
export function unpackWidths(packed: Uint8Array, vectors: number): Uint8Array {
  const widths = new Uint8Array(vectors)
  unpackIndices(packed, 1, vectors, WIDTH_BITS, widths)
  return widths.map((stored) => stored + 1)
}

function packScales(layout: VqLayout, { codes, ratio }: BlockScales): PackedScales {
  const perRow = blocksPerRow(layout)
  const packed = new Uint8Array(layout.rows * packedRowBytes(perRow, SCALE_BITS))
  packIndices(codes, layout.rows, perRow, SCALE_BITS, packed)
  return { codes: packed, ratio: Float32Array.of(ratio) }
}

function unpackScales(layout: VqLayout, packed: PackedScales): BlockScales {
  const perRow = blocksPerRow(layout)
  const codes = new Uint8Array(layout.rows * perRow)
  unpackIndices(packed.codes, layout.rows, perRow, SCALE_BITS, codes)
  return { codes, ratio: packed.ratio[0] }
}
