import { ShapeError } from '../errors.js'
import { indexBitsOf, type VqLayout, vectorsPerRow } from './vq-layer.js'

/**
 * The indices of a trellis layer, rows x vectorsPerRow: the low bits of its keys.
 *
 * @throws ShapeError for a key that does not follow from the one above it
 */
export function indicesOfKeys(layout: VqLayout, keys: Uint16Array): Uint16Array {
  const mask = 2 ** indexBitsOf(layout) - 1
  const indices = keys.map((key) => key & mask)
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
  const { rows, rowsPerGroup, trellisBits = 0 } = layout
  const width = indexBitsOf(layout)
  const perRow = vectorsPerRow(layout)
  const kept = 2 ** trellisBits - 1
  for (let r = 0; r < rows; r++) {
    if (r % rowsPerGroup === 0) continue
    for (let at = r * perRow; at < (r + 1) * perRow; at++) {
      indices[at] |= (indices[at - perRow] & kept) << width
    }
  }
}
