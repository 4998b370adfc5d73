import type { ClusterProblem } from '../../contract.js'

/** Vectors of a tile, unless a metric's period asks for more. */
const TILE_VECTORS = 4096
const MOST_TILE_VECTORS = 65536
/** Rows of a tile over which the norms of its columns are shared, while MOST_TILE_VECTORS allows. */
const TILE_ROWS = 16
/** A tile of sums covers so many vectors per centroid, so that sums take less memory than vectors. */
const VECTORS_PER_SUM = 4

/** Where vectors lie, and how the work on them is cut; it depends on the problem alone, never on the threads. */
export interface ClusterLayout {
  /** Columns: a multiple of 8 and, where groups are longer, of the metric's period. */
  readonly period: number
  /** First vector of each group, a multiple of 8, and what all take together. */
  readonly starts: Int32Array
  readonly vectors: number
  /** Group, first vector, end, first vector of the group. */
  readonly tiles: Int32Array
  /** Vectors of every tile but the last of a group. */
  readonly tileVectors: number
  readonly sumTiles: Int32Array
  /** First sum tile, sum tiles, first tile, tiles, first vector, vectors. */
  readonly groupTable: Int32Array
}

export function clusterLayout({ d, k, groups, period: given }: ClusterProblem): ClusterLayout {
  const counts = groups.map((vectors) => vectors.length / d)
  const period = Math.min(leastCommonMultiple(given, 8), Math.max(8, upToEight(Math.max(0, ...counts))))
  const wanted = Math.max(TILE_VECTORS, Math.min(TILE_ROWS * period, MOST_TILE_VECTORS))
  const tileVectors = period <= wanted ? Math.floor(wanted / period) * period : wanted
  const sumVectors = tileVectors * Math.ceil((VECTORS_PER_SUM * k) / tileVectors)
  const starts = new Int32Array(groups.length)
  const groupTable = new Int32Array(6 * groups.length)
  const tiles: number[] = []
  const sumTiles: number[] = []
  let start = 0
  for (const [group, n] of counts.entries()) {
    starts[group] = start
    const [firstSum, first] = [sumTiles.length / 4, tiles.length / 4]
    cut(tiles, group, start, n, tileVectors)
    cut(sumTiles, group, start, n, sumVectors)
    groupTable.set(
      [firstSum, sumTiles.length / 4 - firstSum, first, tiles.length / 4 - first, start, n],
      6 * group,
    )
    start += upToEight(n)
  }
  return {
    period,
    starts,
    vectors: start,
    tiles: Int32Array.from(tiles),
    tileVectors,
    sumTiles: Int32Array.from(sumTiles),
    groupTable,
  }
}

function cut(tiles: number[], group: number, start: number, n: number, most: number): void {
  for (let from = 0; from < n; from += most) {
    tiles.push(group, start + from, start + Math.min(from + most, n), start)
  }
}

const upToEight = (count: number) => Math.ceil(count / 8) * 8

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b]
  while (y > 0) [x, y] = [y, x % y]
  return (a / x) * b
}
