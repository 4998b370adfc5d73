import { formatNumber } from '../drawing/text.js'
import { snrOfCoded, snrOfNearest } from '../scalar-reference.js'
import type { CodebookGroup } from './codebook-group.js'

/** What a group's weights take, and how near they come. */
export interface GroupCoding {
  /** Bits per weight in words. */
  readonly bits: string
  /** Bits per weight of the even scalar grid beside it. */
  readonly gridBits: number
  /** Signal to noise in dB; undefined where the weights are not known. */
  readonly snr: number | undefined
}

/** Without a trellis each vector takes the nearest centroid; with one the rows above decide which it can have. */
export function groupCoding({ vectorDim, bits, centroids, weights, trellis }: CodebookGroup): GroupCoding {
  if (trellis === undefined) {
    const snr = weights && snrOfNearest(weights, centroids, vectorDim)
    return { bits: `${bits} bits per weight`, gridBits: bits, snr }
  }
  return {
    bits: `${formatNumber(trellis.bits)} bits per weight by a trellis`,
    gridBits: Math.max(1, Math.round(trellis.bits)),
    snr: weights && trellis.coded && snrOfCoded(weights, trellis.coded),
  }
}
