import { ShapeError } from '../common/errors.js'
import { packedRowBytes, packIndices, unpackIndices } from '../kernels/bits.js'

/** Bytes that the stored order of a layer's columns takes: `ceil(log2(cols))` bits a column, at least 1. */
export function permutationBytes(cols: number): number {
  return packedRowBytes(cols, bitsPerColumn(cols))
}

/** The order of a layer's columns as it is stored, least significant bit first. */
export function packPermutation(permutation: Uint32Array): Uint8Array {
  const packed = new Uint8Array(permutationBytes(permutation.length))
  packIndices(permutation, 1, permutation.length, bitsPerColumn(permutation.length), packed)
  return packed
}

/**
 * The inverse of {@link packPermutation}.
 *
 * @throws ShapeError when the stored numbers are not each column once
 */
export function unpackPermutation(packed: Uint8Array, cols: number): Uint32Array {
  const permutation = new Uint32Array(cols)
  unpackIndices(packed, 1, cols, bitsPerColumn(cols), permutation)
  requirePermutation(permutation, cols)
  return permutation
}

/** Checks that `permutation` names each of `cols` columns once. @throws ShapeError saying where it does not */
export function requirePermutation(permutation: Uint32Array, cols: number): void {
  if (permutation.length !== cols) {
    throw new ShapeError(`permutation: found ${permutation.length} columns, the layer has ${cols}`)
  }
  const seen = new Uint8Array(cols)
  for (const [at, column] of permutation.entries()) {
    if (column >= cols || seen[column]) {
      const fault = column < cols ? 'which stands there already' : `the layer has ${cols} columns`
      throw new ShapeError(
        `permutation: position ${at} holds column ${column}, ${fault}; expected each column once`,
      )
    }
    seen[column] = 1
  }
}

/** The columns of `values` (rows x permutation.length) in stored order: column `j` is column `permutation[j]` of `values`. */
export function permuteColumns(values: Float32Array, permutation: Uint32Array): Float32Array {
  const cols = permutation.length
  const permuted = new Float32Array(values.length)
  for (let row = 0; row < values.length; row += cols) {
    for (let j = 0; j < cols; j++) permuted[row + j] = values[row + permutation[j]]
  }
  return permuted
}

/** Puts columns in stored order back in place: the inverse of {@link permuteColumns}, on `values` themselves. */
export function restoreColumns(values: Float32Array, permutation: Uint32Array): void {
  const cols = permutation.length
  for (let row = 0; row < values.length; row += cols) {
    const stored = values.slice(row, row + cols)
    for (let j = 0; j < cols; j++) values[row + permutation[j]] = stored[j]
  }
}

function bitsPerColumn(cols: number): number {
  return Math.max(1, 32 - Math.clz32(cols - 1))
}
