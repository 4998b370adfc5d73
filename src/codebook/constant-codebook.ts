import { OptionError } from '../common/errors.js'
import { CODEBOOK_UNITS, codebookTables, WIDTH_ERRORS, WIDTH_FACTORS } from './constant-tables.js'

/** Bits of a key of the largest constant codebook. */
export const MOST_KEY_BITS = 12
/** The name of the constant codebooks in stored layers; other tables would have another. */
export const CONSTANT_CODEBOOK = 'gaussian-1'

const decoded = new Map<number, Int8Array>()

/**
 * The first `centroids` centroids of the codebook that the library has for vectors of 1, 2 or 4 dimensions, centroids x
 * vectorDim elements. They were trained on a Gaussian source, each half of the table on top of the one before, so that
 * every power of two makes a good codebook (scripts/train-trellis.ts). Not to be changed.
 */
export function constantCodebook(vectorDim: number, centroids: number): Int8Array {
  let table = decoded.get(vectorDim)
  if (table === undefined) {
    table = Int8Array.from(atob(tableOf(vectorDim)), (byte) => byte.charCodeAt(0))
    decoded.set(vectorDim, table)
  }
  return table.subarray(0, centroids * vectorDim)
}

/** What the elements of the constant codebook are times this has the spread of a standard normal variable. */
export function constantUnit(vectorDim: number): number {
  tableOf(vectorDim)
  return CODEBOOK_UNITS[vectorDim]
}

/**
 * What the constant codebook is multiplied by where indices have `width` bits: the fewer, the narrower the best centroids.
 * It has 8 significant bits, so that its product with an element and the scale of a group is exact in float32.
 */
export function widthFactor(vectorDim: number, width: number): number {
  return WIDTH_FACTORS[vectorDim][width - 1]
}

/** What is left of the variance of a normal variable by the largest constant codebook and indices of `width` bits. */
export function widthError(vectorDim: number, width: number): number {
  return WIDTH_ERRORS[vectorDim][width - 1]
}

function tableOf(vectorDim: number): string {
  const table = codebookTables[vectorDim]
  if (table === undefined) {
    throw new OptionError(
      'vectorDim',
      `there are constant codebooks of 1, 2 and 4 dimensions, not of ${vectorDim}`,
    )
  }
  return table
}
