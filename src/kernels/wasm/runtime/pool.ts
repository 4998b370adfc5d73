import { UnsupportedError } from '../../../common/errors.js'
import {
  DONE,
  FAILED,
  KIND,
  LEFT,
  LIMIT,
  PAGES,
  PARAMS,
  SCRATCH,
  SCRATCH_BYTES,
  STOP,
  TOTAL,
  WAKE,
} from './job.js'
import { allocate, pagesOf, release } from './memory.js'
import type { Runtime } from './runtime.js'
import { hasWorkers, reasonOfDeath, startWorker } from './workers.js'

/**
 * Naps of a second without a finished tile after which a worker counts as dead without having said so; tiles take
 * milliseconds. Naps, not a clock: while the machine gives the process no time, none is counted.
 */
const MOST_NAPS = 600
/** Looks at the job board before the caller sleeps until the last tile is done. */
const LOOKS = 4000

/** A parameter of a job: a 32-bit integer, or a number of another type. */
export type JobParam = number | { readonly f32: number } | { readonly f64: number }

/** A runtime and the workers that share its memory. */
export interface Pool {
  readonly runtime: Runtime
  /** Threads that take part in a job, the caller included. */
  threads: number
  /** Workers started so far; the caller is thread 0, they follow. */
  workers: number
}

/** A pool that starts its workers when a job first needs them. */
export function createPool(runtime: Runtime, threads: number): Pool {
  return { runtime, threads, workers: 0 }
}

/** Ends the workers of a pool that does nothing any more. */
export function stopWorkers(pool: Pool): void {
  const board = boardOf(pool.runtime)
  Atomics.store(board, STOP / 4, 1)
  Atomics.add(board, WAKE / 4, 1)
  Atomics.notify(board, WAKE / 4)
}

function boardOf(runtime: Runtime): Int32Array {
  return new Int32Array(runtime.heap.memory.buffer, 0, PARAMS / 4)
}

/**
 * Does a job: hands its tiles to the threads and returns when all are done.
 *
 * @param scratchBytes memory of its own that each thread needs
 * @throws UnsupportedError when a worker died
 */
export function runJob(
  pool: Pool,
  kind: number,
  tiles: number,
  params: readonly JobParam[],
  scratchBytes: number,
): void {
  if (tiles === 0) return
  const { heap } = pool.runtime
  const threads = Math.min(pool.threads, tiles)
  ensureWorkers(pool, threads - 1)
  // for every worker: one that is late in leaving the job before may take a tile of this one, whatever its LIMIT
  const scratch = scratchBytes > 0 ? allocate(heap, (1 + pool.workers) * aligned(scratchBytes)) : 0
  try {
    const board = boardOf(pool.runtime)
    assertAlive(pool, 0, tiles)
    writeParams(heap.memory.buffer, params)
    board[KIND / 4] = kind
    board[TOTAL / 4] = tiles
    board[LIMIT / 4] = threads
    board[SCRATCH / 4] = scratch
    board[SCRATCH_BYTES / 4] = aligned(scratchBytes)
    board[PAGES / 4] = pagesOf(heap)
    Atomics.store(board, DONE / 4, 0)
    Atomics.store(board, LEFT / 4, tiles)
    if (threads > 1) {
      Atomics.add(board, WAKE / 4, 1)
      Atomics.notify(board, WAKE / 4)
    }
    pool.runtime.takeTiles(0)
    awaitDone(pool, board, tiles)
  } finally {
    if (scratch !== 0) release(heap, scratch)
  }
}

const aligned = (bytes: number) => Math.ceil(bytes / 64) * 64

function writeParams(memory: ArrayBufferLike, params: readonly JobParam[]): void {
  const view = new DataView(memory, PARAMS)
  for (const [i, value] of params.entries()) {
    if (typeof value === 'number') view.setInt32(8 * i, value, true)
    else if ('f32' in value) view.setFloat32(8 * i, value.f32, true)
    else view.setFloat64(8 * i, value.f64, true)
  }
}

function ensureWorkers(pool: Pool, wanted: number): void {
  if (!hasWorkers()) return
  const { module, heap } = pool.runtime
  while (pool.workers < wanted) {
    pool.workers++
    startWorker(module, heap.memory, pool.workers)
  }
}

/** Waits until all tiles are done. Where the thread must not sleep (a page's own) it looks again and again. */
function awaitDone(pool: Pool, board: Int32Array, tiles: number): void {
  for (let look = 0; look < LOOKS; look++) if (Atomics.load(board, DONE / 4) === tiles) return
  let lastDone = -1
  let naps = 0
  for (;;) {
    // looked at once: slept on another value than the one found unfinished, the last tile's wake-up could be missed
    const done = Atomics.load(board, DONE / 4)
    if (done === tiles) return
    if (done !== lastDone) naps = 0
    lastDone = done
    if (naps > MOST_NAPS) Atomics.store(board, FAILED / 4, 1)
    assertAlive(pool, done, tiles)
    if (sleep(board, done)) naps++
  }
}

/** A pool with a dead worker does no further job: what that worker held may be half done. */
function assertAlive(pool: Pool, done: number, tiles: number): void {
  const { memory } = pool.runtime.heap
  if (Atomics.load(boardOf(pool.runtime), FAILED / 4) === 0) return
  const reason = reasonOfDeath(memory)
  throw new UnsupportedError(
    `a worker thread of the kernels died${reason ? ` (${reason})` : ' or hangs'}: ` +
      `${done} of ${tiles} parts of a job are done. ` +
      'Start the program again; if it happens again, with the environment variable GPTVQ_THREADS=1',
  )
}

/** Sleeps until `done` changes, a second at most; true when all of that went by. */
function sleep(board: Int32Array, done: number): boolean {
  try {
    return Atomics.wait(board, DONE / 4, done, 1000) === 'timed-out'
  } catch {
    // a page's main thread may not sleep; it goes on looking
    return false
  }
}
