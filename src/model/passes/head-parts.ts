import { type Head, requireRows } from '../decoder/head.js'

/** Logits that are held at once, of each model. */
const heldLogits = 2 ** 24

/** Consecutive hidden states. */
export interface HeadPart {
  readonly first: number
  readonly count: number
  /** Its part of an array of positions x hiddenSize; a view. */
  of(hidden: Float32Array): Float32Array
}

/**
 * Cuts hidden states (positions x hiddenSize) into parts whose logits fit into memory.
 *
 * @throws ShapeError when there are none, or they are not whole rows
 */
export function headParts({ vocabSize, hiddenSize }: Head, hidden: Float32Array): HeadPart[] {
  const positions = requireRows(hidden, hiddenSize)
  const size = Math.max(1, Math.floor(heldLogits / vocabSize))
  return Array.from({ length: Math.ceil(positions / size) }, (_, i) => {
    const first = i * size
    const count = Math.min(size, positions - first)
    return { first, count, of: (x) => x.subarray(first * hiddenSize, (first + count) * hiddenSize) }
  })
}
