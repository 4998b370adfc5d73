/** Multiplications between two turns of the event loop: well under a tenth of a second of the kernels' time. */
const TURN_PRODUCTS = 2 ** 27
/** Larger codebooks take no more time than one of so many centroids: searches skip most of them. */
const MOST_SEARCHED = 512

/** How many rows of a block of `width` columns a kernel may walk through before others are let in. */
export function rowsPerTurn(width: number, centroids: number): number {
  const searched = Math.min(centroids, MOST_SEARCHED)
  return Math.max(1, Math.floor(TURN_PRODUCTS / (width * (searched + width))))
}
