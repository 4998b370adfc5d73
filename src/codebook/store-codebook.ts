import { NumericError } from '../common/errors.js'
import { bfloatToFloat, floatToBfloat, floatToHalf, halfToFloat } from '../kernels/half.js'

/** Bits of a stored codebook element: 8 (signed integers) or 16 (IEEE halves). */
export type CodebookBits = 8 | 16

/** Elements of stored codebooks: int8, or the bits of IEEE halves. */
export type CodebookElements = Int8Array | Uint16Array

/** Room for `length` stored elements. */
export function codebookElements(bits: CodebookBits, length: number): CodebookElements {
  return bits === 8 ? new Int8Array(length) : new Uint16Array(length)
}

/**
 * Rounds one codebook to its stored form: elements of `stored` from `at` on, and the scale that is returned; the value
 * of an element is `element * scale`, rounded to float32.
 *
 * 8 bits: symmetric, `scale = max|c| / 127`, rounded up to a bfloat16: stored in two bytes, and a product with an
 * element is exact in float32. 16 bits: the scale is a power of two that brings the largest element just below 1, so it
 * loses nothing to a half's narrow range.
 *
 * @throws NumericError on NaN or infinity
 */
export function storeCodebook(codebook: Float32Array, stored: CodebookElements, at: number): number {
  let largest = 0
  for (const value of codebook) {
    if (!Number.isFinite(value)) throw new NumericError(`a codebook holds ${value}; expected finite numbers`)
    largest = Math.max(largest, Math.abs(value))
  }
  if (largest === 0) {
    stored.fill(0, at, at + codebook.length)
    return 0
  }
  const isByte = stored instanceof Int8Array
  const scale = isByte
    ? bfloatAbove(largest / 127)
    : 2 ** Math.min(127, Math.max(-126, Math.ceil(Math.log2(largest))))
  for (let i = 0; i < codebook.length; i++) {
    const ratio = scale > 0 ? codebook[i] / scale : 0
    stored[at + i] = isByte ? Math.max(-127, Math.min(127, Math.round(ratio))) : floatToHalf(ratio)
  }
  return scale
}

/** The least bfloat16 not below a positive number, which is far below the largest float32. */
function bfloatAbove(value: number): number {
  const nearest = bfloatToFloat(floatToBfloat(value))
  return nearest >= value ? nearest : bfloatToFloat(floatToBfloat(value) + 1)
}

/** The values of stored elements from `at` on, as many as `codebook` has room for. The inverse of {@link storeCodebook}. */
export function loadCodebook(
  stored: CodebookElements,
  at: number,
  scale: number,
  codebook: Float32Array,
): void {
  const isByte = stored instanceof Int8Array
  for (let i = 0; i < codebook.length; i++) {
    const element = stored[at + i]
    codebook[i] = (isByte ? element : halfToFloat(element)) * scale
  }
}
