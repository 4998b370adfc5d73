import { MOST_KEY_BITS } from '../codebook/constant-codebook.js'
import { ShapeError } from '../common/errors.js'
import { requireLength } from './require-length.js'
import { type VqLayout, vectorsPerRow } from './vq-layer.js'

/**
 * Checks that a layout's trellis names centroids that there are, and that its widths are those that are stored.
 *
 * @param stored the same widths, unpacked; undefined where none are
 * @param owner the layer's shape and settings in words
 * @throws ShapeError
 */
export function requireTrellis(layout: VqLayout, stored: Uint8Array | undefined, owner: string): void {
  const { trellis, vectorDim } = layout
  if (trellis === undefined) return
  const { keyBits, widths } = trellis
  if (![1, 2, 4].includes(vectorDim))
    throw new ShapeError(`vectorDim: found ${vectorDim}, the codebook of a trellis has vectors of 1, 2 or 4`)
  if (!(Number.isInteger(keyBits) && keyBits >= 1 && keyBits <= MOST_KEY_BITS))
    throw new ShapeError(`keyBits: found ${keyBits}, expected a whole number from 1 to ${MOST_KEY_BITS}`)
  requireLength('widths of the trellis', widths.length, vectorsPerRow(layout), owner)
  for (const [v, width] of widths.entries()) {
    if (!(width >= 1 && width <= keyBits))
      throw new ShapeError(
        `widths: found ${width} bits in column ${v}, expected 1 to the ${keyBits} of a key`,
      )
    if (width !== stored?.[v])
      throw new ShapeError(`widths: column ${v} has ${width} bits in the layout, and ${stored?.[v]} stored`)
  }
}
