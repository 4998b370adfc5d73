import {
  type Block,
  type ColumnKernels,
  type ColumnTask,
  type ColumnWalkTask,
  fromRow,
} from '../../contract.js'
import { diagonalBlocks } from '../../diagonal-blocks.js'
import { cutRows } from '../runtime/cut-rows.js'
import { jobKinds } from '../runtime/job.js'
import { type Pool, runJob } from '../runtime/pool.js'
import { padIn, padOut, withMemory } from '../runtime/stage.js'
import {
  type ColumnSearch,
  floatsOfTrees,
  type PlacedMetrics,
  TREE_SCRATCH_BYTES,
  treeOfColumns,
  withTrees,
} from './column-trees.js'
import type { TreeShape } from './tree-shape.js'

/** Rows that one tile takes from left to right; all of them share a codebook. */
const TILE_ROWS = 32
/** Floats of one task that are in the kernels' memory at once; larger tasks are done some rows at a time. */
const STAGED_VALUES = 2 ** 24
/** Bytes of scratch for the values of one vector. */
const VECTOR_BYTES = 256

/** The columns' kernels on `pool`; about `stagedValues` floats are in the kernels' memory at once. */
export function columnKernels(
  pool: Pool,
  stagedValues = STAGED_VALUES,
  search: ColumnSearch = 'fastest',
): ColumnKernels {
  return {
    quantizeColumns(task) {
      const { work, factor, errors } = task
      const metrics = scaledMetrics(task)
      const d = task.vectorDim
      const tree = treeOfColumns(task, search)
      for (const part of partsOf(task, stagedValues, tree)) {
        runPart(pool, part, {
          kind: jobKinds.quantizeColumns,
          source: fromRow(work, part.firstRow - task.firstRow),
          square: factor,
          extraBytes: metrics.byteLength,
          tree,
          metrics: ({ extra }) => ({ at: extra, step: 4 * d * d, row: 4 * d, values: task.metrics }),
          fillExtra: (memory, at) => new Float32Array(memory, at, metrics.length).set(metrics),
          result: fromRow(errors, part.firstRow - task.firstRow),
        })
      }
    },

    refineColumns(task) {
      const { residual, hessian, steps, changes } = task
      let changed = 0
      const d = task.vectorDim
      const tree = treeOfColumns(task, search)
      for (const part of partsOf(task, stagedValues, tree)) {
        const skipped = part.firstRow - task.firstRow
        changed += runPart(pool, part, {
          kind: jobKinds.refineColumns,
          source: fromRow(residual, skipped),
          square: hessian,
          extraBytes: 8 * part.rows,
          tree,
          metrics: ({ square, stride }) => {
            return {
              at: square,
              step: d * (stride + 4),
              row: stride,
              values: diagonalBlocks(hessian, task.width, d),
            }
          },
          readExtra: (memory, at) => changes.set(new Float64Array(memory, at, part.rows), skipped),
          result: fromRow(steps, skipped),
        })
      }
      return changed
    },
  }
}

/** The metrics in float32, each divided by its largest value: that moves no distance past another. */
function scaledMetrics({ metrics, vectorDim: d }: ColumnWalkTask): Float32Array {
  const scaled = new Float32Array(metrics.length)
  for (let at = 0; at < metrics.length; at += d * d) {
    let largest = 0
    for (let i = 0; i < d * d; i++) largest = Math.max(largest, metrics[at + i])
    if (largest > 0) for (let i = 0; i < d * d; i++) scaled[at + i] = metrics[at + i] / largest
  }
  return scaled
}

/** Cuts a task into runs of rows that fit into the kernels' memory. */
function partsOf(task: ColumnTask, most: number, tree: TreeShape | undefined): ColumnTask[] {
  const { width, rowsPerGroup, centroids, vectorDim } = task
  const codebook = centroids * vectorDim
  const room = Math.max(0, most - width * width - 2 * codebook)
  const fitting = Math.max(1, Math.floor(room / (3 * width + codebook / rowsPerGroup)))
  // trees come on top, those of one codebook at least: to plant them for a few rows each would cost more than it saves
  const trees = tree
    ? Math.max(1, Math.floor(most / floatsOfTrees(tree, Math.ceil(width / vectorDim))))
    : Infinity
  const height = Math.min(fitting, trees * rowsPerGroup)
  return cutRows(task, height)
}

/** What a walk and a refinement differ in; `extra` are the metrics of the one, the changes of the loss of the other. */
interface Pass {
  readonly kind: number
  /** rows x width, copied in. */
  readonly source: Block
  /** width x width, copied in. */
  readonly square: Block
  readonly extraBytes: number
  /** Trees to search, and where the metrics then are: what `extra` and `square` became, with rows of `stride` bytes. */
  readonly tree: TreeShape | undefined
  readonly metrics: (at: { extra: number; square: number; stride: number }) => PlacedMetrics
  readonly fillExtra?: (memory: ArrayBufferLike, at: number) => void
  readonly readExtra?: (memory: ArrayBufferLike, at: number) => void
  /** rows x width, copied out. */
  readonly result: Block
}

/** Returns how many indices the tiles say that they changed. */
function runPart(pool: Pool, task: ColumnTask, pass: Pass): number {
  const { rows, width, vectorDim: d, centroids: k, firstRow, rowsPerGroup } = task
  if (rows === 0) return 0
  const { heap } = pool.runtime
  const vectors = Math.ceil(width / d)
  const stride = Math.ceil((vectors * d) / 4) * 4
  const firstGroup = Math.floor(firstRow / rowsPerGroup)
  const groups = Math.floor((firstRow + rows - 1) / rowsPerGroup) - firstGroup + 1
  const tiles = tilesOf(task)
  const blocks = task.scales ? Math.ceil(width / task.scales.blockSize) : 0
  const bytes = [
    tiles.byteLength,
    4 * rows * stride,
    4 * vectors * d * stride,
    pass.extraBytes,
    4 * groups * k * d,
    2 * rows * vectors,
    4 * rows * stride,
    4 * rows * blocks,
  ]
  return withMemory(heap, bytes, (...at) => {
    const [atTiles, atSource, atSquare, atExtra, atCodebooks, atIndices, atResult, atScales] = at
    const memory = heap.memory.buffer
    const table = new Int32Array(memory, atTiles, tiles.length)
    const codebooks = new Float32Array(memory, atCodebooks, groups * k * d)
    const indices = new Uint16Array(memory, atIndices, rows * vectors)
    table.set(tiles)
    padIn(memory, atSource, pass.source, rows, rows, width, stride)
    padIn(memory, atSquare, pass.square, width, vectors * d, width, stride)
    if (task.scales) padIn(memory, atScales, task.scales.values, rows, rows, blocks, blocks)
    pass.fillExtra?.(memory, atExtra)
    for (let g = 0; g < groups; g++) {
      const from = task.codebookOffset + (firstGroup + g) * task.codebookStride
      codebooks.set(task.codebooks.subarray(from, from + k * d), g * k * d)
    }
    for (let r = 0; r < rows; r++) {
      const from = task.indexOffset + r * task.indexStride
      indices.set(task.indices.subarray(from, from + vectors), r * vectors)
    }
    const params = [atTiles, d, k, vectors * d, 4 * stride, atSource, atSquare, atExtra, atCodebooks]
    const padded = Math.ceil(k / 4) * 4
    const scratch = VECTOR_BYTES + 4 * padded * (d + 1)
    const scales = task.scales ? [atScales, task.scales.blockSize, 4 * blocks] : [0, 0, 0]
    const own = [...params, atIndices, atResult, ...scales]
    if (pass.tree) {
      const metrics = pass.metrics({ extra: atExtra, square: atSquare, stride: 4 * stride })
      withTrees(pool, task, groups, pass.tree, metrics, own, (all) =>
        runJob(pool, pass.kind, tiles.length / 4, all, VECTOR_BYTES + TREE_SCRATCH_BYTES),
      )
    } else runJob(pool, pass.kind, tiles.length / 4, [...own, 0], scratch)
    for (let r = 0; r < rows; r++) {
      const to = task.indexOffset + r * task.indexStride
      task.indices.set(indices.subarray(r * vectors, (r + 1) * vectors), to)
    }
    padOut(memory, atResult, pass.result, rows, width, stride)
    pass.readExtra?.(memory, atExtra)
    let changed = 0
    for (let at = 3; at < table.length; at += 4) changed += table[at]
    return changed
  })
}

/** Four numbers for each tile: first row, rows, number of its codebook among those copied in, and 0. */
function tilesOf({ rows, firstRow, rowsPerGroup }: ColumnTask): Int32Array {
  const firstGroup = Math.floor(firstRow / rowsPerGroup)
  const tiles: number[] = []
  for (let row = 0; row < rows; ) {
    const group = Math.floor((firstRow + row) / rowsPerGroup)
    const groupEnd = Math.min((group + 1) * rowsPerGroup - firstRow, rows)
    const height = Math.min(TILE_ROWS, groupEnd - row)
    tiles.push(row, height, group - firstGroup, 0)
    row += height
  }
  return Int32Array.from(tiles)
}
