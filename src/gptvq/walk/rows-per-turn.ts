import { threadCount } from '../../kernels/kernels.js'
import { centroidsOf, type VqLayout } from '../../packing/vq-layer.js'

/** Multiplications between two turns of the event loop: well under a tenth of a second of the kernels' time. */
const TURN_PRODUCTS = 2 ** 27
/** Larger codebooks take no more time than one of so many centroids: searches skip most of them. */
const MOST_SEARCHED = 512

/**
 * The same for a trellis, whose groups of rows are walked through as a whole: one for each thread, since these share
 * out groups, or more.
 */
export function trellisRowsPerTurn(width: number, layout: VqLayout): number {
  const { rowsPerGroup, vectorDim } = layout
  const perGroup = rowsPerGroup * (width / vectorDim) * centroidsOf(layout)
  return rowsPerGroup * Math.max(threadCount(), Math.floor(TURN_PRODUCTS / perGroup))
}

/** How many rows of a block of `width` columns a kernel may walk through before others are let in. */
export function rowsPerTurn(width: number, centroids: number): number {
  const searched = Math.min(centroids, MOST_SEARCHED)
  return Math.max(1, Math.floor(TURN_PRODUCTS / (width * (searched + width))))
}
