import type { Block } from './contract.js'

/** The d x d blocks on the diagonal of a square, one after the other; those of a last, narrower one filled up with zeros. */
export function diagonalBlocks({ data, offset, stride }: Block, width: number, d: number): Float64Array {
  const blocks = new Float64Array(Math.ceil(width / d) * d * d)
  for (let i = 0; i < width; i++) {
    const first = i - (i % d)
    for (let j = first; j < Math.min(first + d, width); j++) {
      blocks[i * d + j - first] = data[offset + i * stride + j]
    }
  }
  return blocks
}
