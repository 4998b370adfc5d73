import { type Block, fromRow } from '../../contract.js'
import type { TrellisKernels, TrellisRefineTask, TrellisWalkTask } from '../../trellis-contract.js'
import { cutRows } from '../runtime/cut-rows.js'
import { jobKinds } from '../runtime/job.js'
import { type Pool, runJob } from '../runtime/pool.js'
import { padIn, padOut, withMemory } from '../runtime/stage.js'
import {
  COLUMN_BYTES,
  PACKING_BYTES,
  type Packing,
  packedShapes,
  roomOf,
  tileRowsOf,
  unitOf,
  WINDOW_BYTES,
  writeColumns,
  writePackings,
} from './trellis-layout.js'
import { searchColumns } from './trellis-search.js'

/** Floats of one task that are in the kernels' memory at once; larger tasks are done some row groups at a time. */
const STAGED_VALUES = 2 ** 24

/** What tests change: neither touches results. */
export interface TrellisRoom {
  readonly stagedValues: number
  readonly windowBytes: number
}

/** The trellis' kernels on `pool`. */
export function trellisKernels(pool: Pool, room: Partial<TrellisRoom> = {}): TrellisKernels {
  const { stagedValues = STAGED_VALUES, windowBytes = WINDOW_BYTES } = room
  return {
    searchTrellis: (tasks) => searchColumns(pool, tasks, stagedValues, windowBytes),

    quantizeTrellis(task) {
      const metrics = scaledMetrics(task)
      for (const part of partsOf(task, stagedValues)) {
        const skipped = part.firstRow - task.firstRow
        runPart(pool, part, windowBytes, {
          kind: jobKinds.quantizeTrellis,
          source: fromRow(task.work, skipped),
          square: task.factor,
          extraBytes: metrics.byteLength,
          fillExtra: (memory, at) => new Float64Array(memory, at, metrics.length).set(metrics),
          result: fromRow(task.errors, skipped),
        })
      }
    },

    refineTrellis(task) {
      let changed = 0
      for (const part of partsOf(task, stagedValues)) {
        const skipped = part.firstRow - task.firstRow
        changed += runPart(pool, part, windowBytes, {
          kind: jobKinds.refineTrellis,
          source: fromRow(task.residual, skipped),
          square: task.hessian,
          extraBytes: 8 * part.rows,
          readExtra: (memory, at) => task.changes.set(new Float64Array(memory, at, part.rows), skipped),
          result: fromRow(task.steps, skipped),
        })
      }
      return changed
    },
  }
}

/** The metrics, each times a power of two that brings it near 1: that rounds nothing and moves no key past another. */
function scaledMetrics({ metrics, vectorDim: d }: TrellisWalkTask): Float64Array {
  const scaled = new Float64Array(metrics.length)
  for (let at = 0; at < metrics.length; at += d * d) {
    const metric = metrics.subarray(at, at + d * d)
    const unit = unitOf(metric)
    for (let i = 0; i < d * d; i++) scaled[at + i] = metric[i] / unit
  }
  return scaled
}

/** Cuts a task into runs of row groups that fit into the kernels' memory, one row group at least. */
function partsOf<T extends TrellisWalkTask | TrellisRefineTask>(task: T, most: number): T[] {
  const { width, rowsPerGroup, centroids, vectorDim, codebookStride } = task
  const distinct = new Set(task.widths).size
  const codebooks = codebookStride === 0 ? 0 : centroids * (distinct + 1) * (vectorDim + 1)
  const room = most - width * width - (distinct + 1) * centroids * (vectorDim + 1)
  const groups = Math.max(1, Math.floor(room / (3 * width * rowsPerGroup + codebooks)))
  return cutRows(task, groups * rowsPerGroup)
}

/** What a walk and a refinement differ in; `extra` are the metrics of the one, the changes of the loss of the other. */
interface Pass {
  readonly kind: number
  /** rows x width, copied in. */
  readonly source: Block
  /** width x width, copied in. */
  readonly square: Block
  readonly extraBytes: number
  readonly fillExtra?: (memory: ArrayBufferLike, at: number) => void
  readonly readExtra?: (memory: ArrayBufferLike, at: number) => void
  /** rows x width, copied out. */
  readonly result: Block
}

/** Returns how many keys the tiles say that they changed. */
function runPart(
  pool: Pool,
  task: TrellisWalkTask | TrellisRefineTask,
  windowBytes: number,
  pass: Pass,
): number {
  const { rows, width, vectorDim: d, centroids: k } = task
  if (rows === 0) return 0
  const { heap } = pool.runtime
  const vectors = Math.ceil(width / d)
  const stride = Math.ceil((vectors * d) / 4) * 4
  const height = Math.min(rows, task.rowsPerGroup)
  const tiles = tilesOf(task, height)
  const codebooks = codebooksOf(task, height)
  const blocks = task.scales ? Math.ceil(width / task.scales.blockSize) : 0
  const shapes = packedShapes(task)
  const bytes = [
    tiles.byteLength,
    4 * rows * stride,
    4 * vectors * d * stride,
    pass.extraBytes,
    4 * codebooks.length * k * d,
    codebooks.length * shapes.bytes,
    2 * rows * vectors,
    4 * rows * stride,
    4 * rows * blocks,
    PACKING_BYTES * codebooks.length * shapes.list.length,
    COLUMN_BYTES * vectors,
  ]
  return withMemory(heap, bytes, (...at) => {
    const [
      atTiles,
      atSource,
      atSquare,
      atExtra,
      atCodebooks,
      atPacked,
      atKeys,
      atResult,
      atScales,
      atPackings,
      atColumns,
    ] = at
    const memory = heap.memory.buffer
    const table = new Int32Array(memory, atTiles, tiles.length)
    const keys = new Uint16Array(memory, atKeys, rows * vectors)
    table.set(tiles)
    padIn(memory, atSource, pass.source, rows, rows, width, stride)
    padIn(memory, atSquare, pass.square, width, vectors * d, width, stride)
    if (task.scales) padIn(memory, atScales, task.scales.values, rows, rows, blocks, blocks)
    pass.fillExtra?.(memory, atExtra)
    writeColumns(memory, atColumns, task, shapes)
    const packings: Packing[] = []
    for (const [i, codebook] of codebooks.entries()) {
      const plain = atCodebooks + 4 * i * k * d
      new Float32Array(memory, plain, k * d).set(codebook)
      for (const { shape, offset } of shapes.list) {
        const packed = atPacked + i * shapes.bytes + offset
        packings.push({ task: { ...shape, vectorDim: d }, plain, packed })
      }
    }
    writePackings(memory, atPackings, packings)
    for (let r = 0; r < rows; r++) {
      const from = task.indexOffset + r * task.indexStride
      keys.set(task.indices.subarray(from, from + vectors), r * vectors)
    }
    runJob(pool, jobKinds.packTrellis, packings.length, [atPackings], 0)
    const room = roomOf(shapes, d, tallestOf(tiles), height, windowBytes)
    const params = [
      ...[atTiles, d, atColumns, task.stateBits, vectors * d, 4 * stride, atSource, atSquare, atExtra],
      ...[atCodebooks, atPacked, atKeys, atResult],
      ...(task.scales ? [atScales, task.scales.blockSize, 4 * blocks] : [0, 0, 0]),
      ...[height, room.window, shapes.bytes, room.packedBytes, room.tableBytes],
    ]
    runJob(pool, pass.kind, tiles.length / 4, params, room.bytes)
    for (let r = 0; r < rows; r++) {
      const to = task.indexOffset + r * task.indexStride
      task.indices.set(keys.subarray(r * vectors, (r + 1) * vectors), to)
    }
    padOut(memory, atResult, pass.result, rows, width, stride)
    pass.readExtra?.(memory, atExtra)
    let changed = 0
    for (let at = 3; at < table.length; at += 4) changed += table[at]
    return changed
  })
}

/** The codebooks that a task's row groups have, each once. */
function codebooksOf(
  {
    rows,
    firstRow,
    rowsPerGroup,
    codebooks,
    codebookOffset,
    codebookStride,
    centroids,
    vectorDim,
  }: TrellisWalkTask | TrellisRefineTask,
  height: number,
): Float32Array[] {
  const count = codebookStride === 0 ? 1 : Math.ceil(rows / height)
  const first = codebookOffset + Math.floor(firstRow / rowsPerGroup) * codebookStride
  return Array.from({ length: count }, (_, g) => {
    const at = first + g * codebookStride
    return codebooks.subarray(at, at + centroids * vectorDim)
  })
}

/** Four numbers for each tile: first row, rows, number of its codebook among those copied in, and 0. */
function tilesOf({ rows, codebookStride }: TrellisWalkTask | TrellisRefineTask, height: number): Int32Array {
  const step = codebookStride === 0 ? tileRowsOf(height) : height
  const tiles: number[] = []
  for (let row = 0; row < rows; row += step) {
    tiles.push(row, Math.min(step, rows - row), codebookStride === 0 ? 0 : row / height, 0)
  }
  return Int32Array.from(tiles)
}

function tallestOf(tiles: Int32Array): number {
  let tallest = 0
  for (let at = 1; at < tiles.length; at += 4) tallest = Math.max(tallest, tiles[at])
  return tallest
}
