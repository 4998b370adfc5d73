import { constantCodebook } from '../codebook/constant-codebook.js'
import { loadCodebook } from '../codebook/store-codebook.js'
import { decodeBfloats } from '../kernels/half.js'
import type { CodebookValues, PackedSource } from '../kernels/packed-contract.js'
import { scaleLevels } from './block-scales.js'
import { type PackedLayer, requirePackedLayer } from './pack-layer.js'
import { unpackPermutation } from './permutation.js'
import type { PackedQuantizedLayer } from './quantized-layer.js'
import { type PackedScalarLayer, requirePackedScalar, unpackZeros } from './scalar-layer.js'
import { centroidsOf, indexBitsOf, isTrellis, trellisColumns } from './vq-layer.js'

/**
 * A packed layer as the kernels that multiply by it take it; indices and codes are not copied.
 *
 * @throws ShapeError when an array's length does not follow from shape and settings, or the permutation is none
 */
export function packedSourceOf(packed: PackedQuantizedLayer): PackedSource {
  return 'layout' in packed ? vqSource(packed) : scalarSource(packed)
}

function vqSource(packed: PackedLayer): PackedSource {
  requirePackedLayer(packed)
  const { layout, indices, codebookScales, permutation } = packed
  const { rows, cols } = layout
  const scales = new Float32Array(codebookScales.length)
  decodeBfloats(codebookScales, scales)
  return {
    rows,
    cols,
    codes: indices,
    codeBits: isTrellis(layout) ? 0 : indexBitsOf(layout),
    values: {
      kind: 'codebooks',
      vectorDim: layout.vectorDim,
      rowsPerGroup: layout.rowsPerGroup,
      columnsPerGroup: layout.columnsPerGroup,
      elements: elementsOf(packed),
      scales,
      ...(layout.trellis && { trellis: trellisColumns(layout, 0, cols) }),
      ...blocksOf(packed),
    },
    ...(permutation && { permutation: unpackPermutation(permutation, cols) }),
  }
}

function elementsOf({ layout, codebooks }: PackedLayer): Int8Array | Float32Array {
  if (isTrellis(layout)) return constantCodebook(layout.vectorDim, centroidsOf(layout))
  if (codebooks instanceof Int8Array) return codebooks
  const elements = new Float32Array(codebooks.length)
  loadCodebook(codebooks, 0, 1, elements)
  return elements
}

function blocksOf({ layout, blockScales }: PackedLayer): Pick<CodebookValues, 'blocks'> {
  if (blockScales === undefined || layout.scaleBlockSize === undefined) return {}
  const levels = scaleLevels(blockScales.ratio[0])
  return { blocks: { size: layout.scaleBlockSize, codes: blockScales.codes, levels } }
}

function scalarSource(packed: PackedScalarLayer): PackedSource {
  requirePackedScalar(packed)
  const { rows, cols, bits, groupSize, codes, scales } = packed
  return {
    rows,
    cols,
    codes,
    codeBits: bits,
    values: { kind: 'grid', groupSize, scales, zeros: unpackZeros(packed) },
  }
}
