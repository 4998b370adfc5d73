import type { Block } from '../../contract.js'
import type { TrellisTask } from '../../trellis-contract.js'
import { jobKinds } from '../runtime/job.js'
import { type Pool, runJob } from '../runtime/pool.js'
import { withMemory } from '../runtime/stage.js'
import {
  bytesOfPacked,
  bytesOfScratch,
  classesOf,
  tileRowsOf,
  unitOf,
  windowOf,
  writePackings,
} from './trellis-layout.js'

/** Numbers of a tile, as `assembly/trellis.ts` reads them. */
const TILE_NUMBERS = 13

/** See `TrellisKernels.searchTrellis`; about `stagedValues` floats are in the kernels' memory at once. */
export function searchColumns(
  pool: Pool,
  tasks: readonly TrellisTask[],
  stagedValues: number,
  windowBytes: number,
): Float64Array {
  const losses = new Float64Array(tasks.length)
  const present = tasks.map((_, i) => i).filter((i) => tasks[i].rows > 0)
  for (let first = 0; first < present.length; ) {
    let end = first
    let values = 0
    do values += valuesOf(tasks[present[end++]])
    while (end < present.length && values + valuesOf(tasks[present[end]]) <= stagedValues)
    const batch = present.slice(first, end)
    const found = searchBatch(
      pool,
      batch.map((i) => tasks[i]),
      windowBytes,
    )
    for (const [j, i] of batch.entries()) losses[i] = found[j]
    first = end
  }
  return losses
}

/** Floats of a task, its codebook aside: tasks mostly share one. */
function valuesOf({ rows, vectorDim }: TrellisTask): number {
  return rows * (vectorDim + 2)
}

function searchBatch(pool: Pool, tasks: readonly TrellisTask[], windowBytes: number): number[] {
  const { heap } = pool.runtime
  const tiles = tasks.map(tilesOf)
  const count = tiles.reduce((sum, { length }) => sum + length, 0)
  const { codebooks, numbers } = codebooksOf(tasks)
  const bytes = [
    4 * TILE_NUMBERS * count,
    8 * count,
    20 * codebooks.length,
    ...tasks.flatMap(({ rows, vectorDim: d, scales }) => [
      4 * rows * d,
      scales ? 4 * rows : 0,
      2 * rows,
      8 * d * d,
    ]),
    ...codebooks.flatMap((task) => [4 * task.centroids.length, bytesOfPacked(task, task.vectorDim)]),
  ]
  return withMemory(heap, bytes, (atTiles, atLosses, atPackings, ...rest) => {
    const memory = heap.memory.buffer
    const table = new Int32Array(memory, atTiles, TILE_NUMBERS * count)
    const losses = new Float64Array(memory, atLosses, count)
    const books = codebooks.map((task, i) => {
      const [plain, packed] = rest.slice(4 * tasks.length + 2 * i)
      new Float32Array(memory, plain, task.centroids.length).set(task.centroids)
      return { task, plain, packed }
    })
    writePackings(memory, atPackings, books)
    runJob(pool, jobKinds.packTrellis, books.length, [atPackings], 0)
    let scratch = 0
    let tile = 0
    for (const [i, task] of tasks.entries()) {
      const { rows, vectorDim: d, targets, scales, metric, indexBits } = task
      const [atTargets, atScales, atKeys, atMetric] = rest.slice(4 * i)
      const unit = unitOf(metric)
      gather(new Float32Array(memory, atTargets, rows * d), targets, d)
      if (scales) gather(new Float32Array(memory, atScales, rows), scales, 1)
      new Float64Array(memory, atMetric, d * d).set(metric.map((value) => value / unit))
      const height = heightOf(task)
      const window = windowOf(task, height, windowBytes)
      const { plain, packed } = books[numbers[i]]
      for (const { row, count: own } of tiles[i]) {
        const from = [atTargets + 4 * row * d, scales ? atScales + 4 * row : 0, atMetric, plain, packed]
        const to = [atKeys + 2 * row, atLosses + 8 * tile]
        table.set([...from, ...to, own, height, d, indexBits, classesOf(task), window], TILE_NUMBERS * tile++)
      }
      scratch = Math.max(scratch, bytesOfScratch(task, d, tiles[i][0].count, height, window))
    }
    runJob(pool, jobKinds.searchTrellis, count, [atTiles], scratch)
    let from = 0
    return tasks.map((task, i) => {
      const { rows, keys, keyOffset, keyStride, metric } = task
      const found = new Uint16Array(memory, rest[4 * i + 2], rows)
      for (let r = 0; r < rows; r++) keys[keyOffset + r * keyStride] = found[r]
      let loss = 0
      for (const _ of tiles[i]) loss += losses[from++]
      return loss * unitOf(metric)
    })
  })
}

/** Packs rows of a few values: one by one, since a view of each row takes longer than the search at few states. */
function gather(to: Float32Array, { data, offset, stride }: Block, width: number): void {
  for (let at = 0, from = offset; at < to.length; at += width, from += stride) {
    for (let a = 0; a < width; a++) to[at + a] = data[from + a]
  }
}

function heightOf({ rows, rowsPerStart }: TrellisTask): number {
  return rowsPerStart === 0 ? rows : Math.min(rows, rowsPerStart)
}

/** The runs of whole paths that a task is cut into; they do not depend on the number of threads, nor does the loss. */
function tilesOf(task: TrellisTask): { row: number; count: number }[] {
  const step = tileRowsOf(heightOf(task))
  const tiles: { row: number; count: number }[] = []
  for (let row = 0; row < task.rows; row += step) tiles.push({ row, count: Math.min(step, task.rows - row) })
  return tiles
}

/** A task for each codebook to pack, and the number of each task's codebook among them. */
function codebooksOf(tasks: readonly TrellisTask[]): { codebooks: TrellisTask[]; numbers: number[] } {
  const codebooks: TrellisTask[] = []
  const numbers = tasks.map((task) => {
    const known = codebooks.findIndex((other) => isPackedAlike(task, other))
    return known >= 0 ? known : codebooks.push(task) - 1
  })
  return { codebooks, numbers }
}

function isPackedAlike(a: TrellisTask, b: TrellisTask): boolean {
  const isSameShape =
    a.vectorDim === b.vectorDim && a.indexBits === b.indexBits && a.stateBits === b.stateBits
  return isSameShape && a.centroids === b.centroids
}
