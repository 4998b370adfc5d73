import { ShapeError } from '../common/errors.js'
import { packedRowBytes } from '../kernels/bits.js'
import { type VqLayout, vectorsPerRow } from './vq-layer.js'

/**
 * The indices of a trellis layer, rows x vectorsPerRow: the low bits of its keys.
 *
 * @throws ShapeError for a key that does not follow from the one above it
 */
export function indicesOfKeys(layout: VqLayout, keys: Uint16Array): Uint16Array {
  const { widths } = layout.trellis!
  const indices = keys.map((key, i) => key & (2 ** widths[i % widths.length] - 1))
  const again = indices.slice()
  keysOfIndices(layout, again)
  const wrong = keys.findIndex((key, i) => key !== again[i])
  if (wrong >= 0) {
    const perRow = vectorsPerRow(layout)
    throw new ShapeError(
      `indices: key ${keys[wrong]} of vector ${wrong % perRow} in row ${Math.floor(wrong / perRow)} does not follow ` +
        `from the key above it; its own index there makes it ${again[wrong]}`,
    )
  }
  return indices
}

/** Turns indices into keys, in place: each takes in the bits of those above it, from the first row of its group on. */
export function keysOfIndices(layout: VqLayout, indices: Uint16Array): void {
  const { rows, rowsPerGroup } = layout
  const { keyBits, widths } = layout.trellis!
  const mask = 2 ** keyBits - 1
  for (let r = 0; r < rows; r++) {
    if (r % rowsPerGroup === 0) continue
    const from = r * widths.length
    for (const [v, width] of widths.entries()) {
      indices[from + v] |= (indices[from + v - widths.length] << width) & mask
    }
  }
}

/** Bits that store the width of an index, less 1. */
export const WIDTH_BITS = 4

/** Bytes that the widths of a layer's columns of vectors take. */
export function widthBytes(vectors: number): number {
  return packedRowBytes(vectors, WIDTH_BITS)
}
