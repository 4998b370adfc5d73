import type { CodebookElements } from '../codebook/store-codebook.js'
import { packedRowBytes, packIndices, unpackIndices } from '../kernels/bits.js'
import { requireLength } from './require-length.js'
import {
  centroidsOf,
  columnGroupsOf,
  rowGroupsOf,
  type VqLayer,
  type VqLayout,
  vectorsPerRow,
} from './vq-layer.js'

/** The arrays of a layer exactly as a checkpoint stores them. */
export interface PackedLayer {
  readonly layout: VqLayout
  /** `bits * vectorDim` bits per vector, least significant bit first, rows byte-aligned. */
  readonly indices: Uint8Array
  /** groups x k x vectorDim. */
  readonly codebooks: CodebookElements
  /** groups. */
  readonly codebookScales: Float32Array
}

/** Packs a layer's indices; {@link unpackLayer} gives back the same layer. */
export function packLayer(layer: VqLayer): PackedLayer {
  const { layout, codebooks, codebookScales } = layer
  const width = layout.bits * layout.vectorDim
  const perRow = vectorsPerRow(layout)
  const indices = new Uint8Array(layout.rows * packedRowBytes(perRow, width))
  packIndices(layer.indices, layout.rows, perRow, width, indices)
  return { layout, indices, codebooks, codebookScales }
}

/**
 * The inverse of {@link packLayer}.
 *
 * @throws ShapeError when an array's length does not follow from the layout
 */
export function unpackLayer(packed: PackedLayer): VqLayer {
  const { layout, codebooks, codebookScales } = packed
  const width = layout.bits * layout.vectorDim
  const perRow = vectorsPerRow(layout)
  const groups = rowGroupsOf(layout) * columnGroupsOf(layout)
  const owner =
    `a ${layout.rows} x ${layout.cols} layer of ${layout.vectorDim}-D vectors with ${layout.bits} bits and groups of ` +
    `${layout.rowsPerGroup} x ${layout.columnsPerGroup}`
  requireLength('indices', packed.indices.length, layout.rows * packedRowBytes(perRow, width), owner)
  requireLength('codebooks', codebooks.length, groups * centroidsOf(layout) * layout.vectorDim, owner)
  requireLength('codebook scales', codebookScales.length, groups, owner)
  const indices = new Uint16Array(layout.rows * perRow)
  unpackIndices(packed.indices, layout.rows, perRow, width, indices)
  return { layout, indices, codebookBits: codebooks instanceof Int8Array ? 8 : 16, codebooks, codebookScales }
}
