/** Where a codebook's tree of `assembly/tree.ts` has what; the order of `shape` is that of its `Shape`. */

const LEAF = 8
const FAN = 4
/** Nodes of the top level at most. */
const MOST_TOP = 8
const MOST_LEVELS = 6

/** Scratch of a search, as in `assembly/tree-search.ts`. */
export const SEARCH_BYTES = 32 * 64 + 7 * 4 * 1024

export interface TreeShape {
  /** The table that the kernels read. */
  readonly table: Int32Array
  /** Bytes of a tree, of what a metric makes of it, and of scratch to build it. */
  readonly treeBytes: number
  readonly boundBytes: number
  readonly scratchBytes: number
}

/** `hasProducts`: with room for the products of coordinates. */
export function treeShape(k: number, d: number, hasProducts: boolean): TreeShape {
  let levels = 1
  let top = Math.ceil(k / LEAF)
  for (; top > MOST_TOP; top = Math.ceil(top / FAN)) levels++
  if (levels > MOST_LEVELS) throw new RangeError(`${k} centroids make a tree of ${levels} levels`)
  const starts = new Array<number>(MOST_LEVELS).fill(0)
  // groups of 4 nodes: those of a level are the nodes of the next
  let groups = 0
  const topGroups = Math.ceil(top / FAN)
  for (let level = 0; level < levels; level++) {
    starts[level] = groups
    groups += topGroups * FAN ** (levels - 1 - level)
  }
  const leaves = topGroups * FAN ** levels
  const slots = LEAF * leaves
  let treeBytes = 0
  const room = (bytes: number) => {
    const at = treeBytes
    treeBytes += Math.ceil(bytes / 16) * 16
    return at
  }
  const arrays = [
    room(4 * slots),
    room(2 * k),
    room(4 * slots * d),
    room(4 * slots * d),
    room(16 * groups),
    room(hasProducts ? 4 * slots * ((d * (d + 1)) / 2) : 0),
  ]
  return {
    table: Int32Array.of(k, d, levels, leaves, groups, ...starts, ...arrays),
    treeBytes,
    boundBytes: 4 * slots + 16 * (2 * d + 1) * groups,
    scratchBytes: 4 * d * k,
  }
}

/**
 * By what a tree's builder transforms centroids, d x d: the lower triangle L with `L L^T` the mean of the metrics (each
 * d x d, positive semidefinite) after each was divided by its trace.
 */
export function treeFactor(metrics: Float64Array, d: number): Float32Array {
  const mean = new Float64Array(d * d)
  for (let at = 0; at < metrics.length; at += d * d) {
    let trace = 0
    for (let a = 0; a < d; a++) trace += metrics[at + a * (d + 1)]
    if (trace > 0) for (let i = 0; i < d * d; i++) mean[i] += metrics[at + i] / trace
  }
  let size = 0
  for (let a = 0; a < d; a++) size += mean[a * (d + 1)]
  const factor = new Float32Array(d * d)
  for (let i = 0; i < d; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = mean[i * d + j]
      for (let p = 0; p < j; p++) sum -= factor[i * d + p] * factor[j * d + p]
      // a singular mean still tells what it can; only how much a search skips depends on it
      if (i === j) factor[i * d + i] = Math.sqrt(Math.max(sum, 1e-4 * size, 1e-30))
      else factor[i * d + j] = sum / factor[j * d + j]
    }
  }
  return factor
}
