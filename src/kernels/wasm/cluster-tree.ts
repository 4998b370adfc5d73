import type { ClusterProblem } from '../contract.js'
import type { ClusterLayout } from './cluster-layout.js'
import { jobKinds } from './job.js'
import { type Pool, runJob } from './pool.js'
import { type TreeShape, treeFactor, treeShape } from './tree-shape.js'
import type { Room } from './typed-room.js'

/** How `assign` searches: through all centroids, through a tree of them, or whichever is faster. All find the same. */
export type ClusterSearch = 'all' | 'tree' | 'fastest'

/** Centroids, and vectors that share a metric, from which on a tree is faster. */
const LEAST_CENTROIDS = 256
const LEAST_ROWS = 64
/** Rows that share what a metric makes of a tree, and at least as many as there are centroids. */
const LEAST_SEARCHED_ROWS = 1024
/** As in `assembly/tree-search.ts`. */
const SEARCH_BYTES = 32 * 64 + 7 * 4 * 1024
/** Space for a metric's form and its factor. */
const FORM_BYTES = 128

/** The tree to search `problem` with; none where going through all centroids is faster. */
export function treeFor(
  { d, k, groups }: ClusterProblem,
  { period }: ClusterLayout,
  search: ClusterSearch,
): TreeShape | undefined {
  if (search === 'all' || (d !== 2 && d !== 4)) return undefined
  const vectors = groups.reduce((sum, { length }) => sum + length / d, 0)
  const rows = vectors / (period * Math.max(1, groups.length))
  const pays = k >= LEAST_CENTROIDS && rows >= LEAST_ROWS
  return pays || search === 'tree' ? treeShape(k, d, true) : undefined
}

/** What a session has for the search of trees: the last fields of `assembly/clustering-session.ts`. */
export function treeArrays(
  { d, metric, groups }: ClusterProblem,
  { period }: ClusterLayout,
  { table, treeBytes }: TreeShape,
  room: Room,
): number[] {
  const starts = new Int32Array(groups.length)
  let vectors = 0
  for (const [group, { length }] of groups.entries()) {
    starts[group] = vectors
    vectors += period * Math.ceil(length / d / period)
  }
  const found = room(Uint16Array, vectors).fill(0)
  const sought = room(Float32Array, vectors * (2 * d + 2))
  const soughtStarts = room(Int32Array, starts.length)
  soughtStarts.set(starts)
  const shape = room(Int32Array, table.length)
  shape.set(table)
  const trees = room(Uint8Array, groups.length * treeBytes)
  const factor = room(Float32Array, d * d)
  factor.set(treeFactor(metric, d))
  const offsets = [found, sought, soughtStarts, shape, trees].map((array) => array.byteOffset)
  return [...offsets, treeBytes, factor.byteOffset]
}

/**
 * Prepares the search of a session and returns it. It finds the nearest centroids of all vectors of active groups, for
 * `assign` to take over; `isAssigned`: it may begin at those that it found last.
 */
export function treeSearch(
  pool: Pool,
  { d, k, groups }: ClusterProblem,
  { period }: ClusterLayout,
  { scratchBytes, boundBytes }: TreeShape,
  session: number,
): (isAssigned: boolean) => void {
  runJob(pool, jobKinds.gatherColumns, groups.length * period, [session], 0)
  const most = Math.max(0, ...groups.map((vectors) => Math.ceil(vectors.length / d / period)))
  const rows = Math.max(LEAST_SEARCHED_ROWS, k)
  const parts = Math.ceil(most / rows)
  return (isAssigned) => {
    runJob(pool, jobKinds.plantTrees, groups.length, [session], scratchBytes)
    const params = [session, rows, parts, Number(isAssigned)]
    const searchBytes = SEARCH_BYTES + FORM_BYTES + boundBytes
    runJob(pool, jobKinds.searchColumns, groups.length * period * parts, params, searchBytes)
  }
}
