import type { ColumnTask } from '../../contract.js'
import { jobKinds } from '../runtime/job.js'
import { type Pool, runJob } from '../runtime/pool.js'
import { withMemory } from '../runtime/stage.js'
import { SEARCH_BYTES, type TreeShape, treeFactor, treeShape } from './tree-shape.js'

/** How columns are searched: through all centroids, through trees of them, or whichever is faster. All find the same. */
export type ColumnSearch = 'all' | 'tree' | 'fastest'

/** Centroids, and rows that share a codebook, from which on trees are faster. */
const LEAST_CENTROIDS = 512
const LEAST_ROWS = 64
/** What a table has before its bounds, as in `assembly/columns-search.ts`. */
const TABLE_HEAD = 256
/** Scratch of a tile, beside that of one vector: the search's own, and what is known of one vector. */
export const TREE_SCRATCH_BYTES = SEARCH_BYTES + 128

/** The trees to search a task with; none where going through all centroids is faster. */
export function treeOfColumns(
  { vectorDim: d, centroids: k, rows, rowsPerGroup }: ColumnTask,
  search: ColumnSearch,
): TreeShape | undefined {
  if (search === 'all' || (d !== 2 && d !== 4)) return undefined
  const pays = k >= LEAST_CENTROIDS && Math.min(rows, rowsPerGroup) >= LEAST_ROWS
  return pays || search === 'tree' ? treeShape(k, d, false) : undefined
}

/** Floats that the trees of one codebook and its tables take, for `positions` vectors of a row. */
export function floatsOfTrees(tree: TreeShape, positions: number): number {
  return (tree.treeBytes + positions * (TABLE_HEAD + tree.boundBytes)) / 4
}

/** The metrics of a task in the kernels' memory: where the first is, and the bytes from one to the next, and of a row. */
export interface PlacedMetrics {
  readonly at: number
  readonly step: number
  readonly row: number
  /** The same metrics, each d x d. */
  readonly values: Float64Array
}

/** Plants trees for a task and runs `use` with the parameters that say where they are, after `params`. */
export function withTrees<T>(
  pool: Pool,
  { vectorDim: d, width }: ColumnTask,
  groups: number,
  { table, treeBytes, boundBytes, scratchBytes }: TreeShape,
  metrics: PlacedMetrics,
  params: readonly number[],
  use: (params: readonly number[]) => T,
): T {
  const { heap } = pool.runtime
  const positions = Math.ceil(width / d)
  const tableBytes = TABLE_HEAD + boundBytes
  const bytes = [table.byteLength, 4 * d * d, groups * treeBytes, groups * positions * tableBytes]
  return withMemory(heap, bytes, (atShape, atFactor, atTrees, atTables) => {
    new Int32Array(heap.memory.buffer, atShape, table.length).set(table)
    new Float32Array(heap.memory.buffer, atFactor, d * d).set(treeFactor(metrics.values, d))
    const all = [
      ...[...params, atShape, atTrees, treeBytes, atTables, tableBytes, atFactor],
      ...[metrics.at, metrics.step, metrics.row, positions],
    ]
    runJob(pool, jobKinds.plantCodebooks, groups, all, scratchBytes)
    runJob(pool, jobKinds.boundPositions, groups * positions, all, 128)
    return use(all)
  })
}
