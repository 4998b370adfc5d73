import type { ClusterProblem } from '../../contract.js'
import { jobKinds } from '../runtime/job.js'
import { type Pool, runJob } from '../runtime/pool.js'
import { stretchOf } from '../runtime/stretch.js'
import type { Room } from '../runtime/typed-room.js'
import type { ClusterLayout } from './cluster-layout.js'
import { SEARCH_BYTES, type TreeShape, treeFactor, treeShape } from './tree-shape.js'

/** How `assign` searches: through all centroids, through a tree of them, or whichever is faster. All find the same. */
export type ClusterSearch = 'all' | 'tree' | 'fastest'

/** Centroids in 2 and in 4 dimensions, and vectors that share a metric, from which on a tree is faster. */
const LEAST_CENTROIDS = { 2: 256, 4: 512 }
const LEAST_ROWS = 64
/** Rows that share what a metric makes of a tree, and at least as many as there are centroids. */
const LEAST_SEARCHED_ROWS = 1024
/** Seeds from which on drawing near ones is faster. */
const LEAST_NEAR_SEEDS = 512
/** Seeds that are measured against all vectors: while there are few, a seed is near to many. */
const FAR_SEEDS = 64
/** As in `assembly/seeds-near.ts`. */
const CHUNK = 64
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
  const pays = k >= LEAST_CENTROIDS[d] && rows >= LEAST_ROWS
  return pays || search === 'tree' ? treeShape(k, d, true) : undefined
}

/** What a session has for the search of trees: the last fields of `assembly/clustering-session.ts`. */
export function treeArrays(
  { d, metric, groups }: ClusterProblem,
  { period, tiles, tileVectors }: ClusterLayout,
  forms: Float32Array,
  { table, treeBytes }: TreeShape,
  room: Room,
): number[] {
  const starts = new Int32Array(groups.length + 1)
  for (const [group, { length }] of groups.entries()) {
    const vectors = period * Math.ceil(length / d / period)
    starts[group + 1] = starts[group] + upTo(vectors + CHUNK, 4 * CHUNK)
  }
  const vectors = starts[groups.length]
  const tileColumns = Math.min(period, tileVectors)
  const columns = (tiles.length / 4) * tileColumns
  const factor = treeFactor(metric, d)
  const found = room(Uint16Array, vectors).fill(0)
  const sought = room(Float32Array, vectors * (2 * d + 2))
  const soughtStarts = room(Int32Array, starts.length)
  soughtStarts.set(starts)
  const shape = room(Int32Array, table.length)
  shape.set(table)
  const trees = room(Uint8Array, groups.length * treeBytes)
  const treeFactors = room(Float32Array, d * d)
  treeFactors.set(factor)
  const stretches = room(Float32Array, period)
  stretches.set(stretchesOf(forms, d, factor))
  const chunks = room(Float32Array, (vectors / CHUNK) * (2 * d + 1))
  const columnSums = room(Float64Array, columns)
  const stale = room(Uint8Array, columns).fill(0)
  const staleList = room(Int32Array, columns)
  return [
    ...[found, sought, soughtStarts, shape, trees].map((array) => array.byteOffset),
    treeBytes,
    ...[treeFactors, stretches, chunks, columnSums, stale, staleList].map((array) => array.byteOffset),
    tileVectors,
    tileColumns,
  ]
}

const upTo = (count: number, multiple: number) => Math.ceil(count / multiple) * multiple

/** The search of a session by trees. */
export interface TreeSearch {
  /**
   * Finds the nearest centroids of all vectors of active groups, for `assign` to take over; `isNear`: it may begin at those
   * that it found last, or that seeds were.
   */
  findNearest(isNear: boolean): void
  /** `drawSeeds`, where the search can do it; false: it cannot, but distances are as it needs them for the next. */
  drawSeeds(index: number): boolean
}

export function treeSearch(
  pool: Pool,
  { d, k, groups }: ClusterProblem,
  { period }: ClusterLayout,
  { scratchBytes, boundBytes }: TreeShape,
  session: number,
): TreeSearch {
  const most = Math.max(0, ...groups.map((vectors) => Math.ceil(vectors.length / d / period)))
  const rows = Math.max(LEAST_SEARCHED_ROWS, k)
  const parts = Math.ceil(most / rows)
  // vectors as the search wants them, and as the seeds do, take turns in the same memory
  let isGathered = false
  return {
    findNearest(isNear) {
      if (!isGathered) runJob(pool, jobKinds.gatherColumns, groups.length * period, [session], 0)
      isGathered = true
      runJob(pool, jobKinds.plantTrees, groups.length, [session], scratchBytes)
      const params = [session, rows, parts, Number(isNear)]
      const searchBytes = SEARCH_BYTES + FORM_BYTES + boundBytes
      runJob(pool, jobKinds.searchColumns, groups.length * period * parts, params, searchBytes)
    },
    drawSeeds(index) {
      if (k < LEAST_NEAR_SEEDS || index <= FAR_SEEDS) return false
      if (index === FAR_SEEDS + 1) {
        runJob(pool, jobKinds.sortVectors, groups.length, [session, FAR_SEEDS], 16 + 4 * d * FAR_SEEDS)
      }
      isGathered = false
      runJob(pool, jobKinds.drawNear, groups.length, [session, index - 1], 64)
      return true
    },
  }
}

/**
 * Of each form F (the upper triangles of 8 side by side, off the diagonal doubled): the largest ratio of `|L^T v|^2` to
 * `v^T F v` as float32 has it, Infinity where there is none.
 */
function stretchesOf(forms: Float32Array, d: number, factor: Float32Array): Float32Array {
  const triangle = (d * (d + 1)) / 2
  const stretches = new Float32Array(forms.length / triangle)
  const form = new Float64Array(d * d)
  for (let column = 0; column < stretches.length; column++) {
    let at = (column >> 3) * triangle * 8 + (column & 7)
    let size = 0
    for (let a = 0; a < d; a++) {
      for (let b = a; b < d; b++) {
        form[a * d + b] = form[b * d + a] = forms[at] / (a === b ? 1 : 2)
        size += Math.abs(forms[at])
        at += 8
      }
    }
    stretches[column] = stretchOf(form, size, d, factor)
  }
  return stretches
}
