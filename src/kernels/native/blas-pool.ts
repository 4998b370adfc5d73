import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import { type BlasLibrary, SGEMM } from './blas-library.js'

/** What all tiles of a product have in common. */
export interface TileShape {
  readonly isATransposed: boolean
  readonly isBTransposed: boolean
  readonly k: number
  readonly alpha: number
  readonly beta: 0 | 1
  /** Floats between rows of the arrays. */
  readonly strides: readonly [a: number, b: number, c: number]
}

/** One tile of a product: its rows and columns, and where its operands start. */
export type Tile = readonly [m: number, n: number, a: number, b: number, c: number]

/** Threads that call the library at once. Results do not depend on how many they are. */
export interface BlasPool {
  readonly library: BlasLibrary
  readonly board: SharedArrayBuffer
  workers: number
}

/** Tiles that are handed out at once; more follow in turn. */
const MOST_TILES = 2048
const TILE_FIELDS = 5
/** Int32 fields of the board; the numbers of the job follow. */
const [WAKE, LEFT, DONE, LIMIT] = [0, 1, 2, 3]
const SHAPE = 64
const SHAPE_FIELDS = 8
const TILES = SHAPE + 8 * SHAPE_FIELDS
const BYTES = TILES + 8 * TILE_FIELDS * MOST_TILES

const ROW_MAJOR = 101
const PLAIN = 111
const TRANSPOSED = 112

/** Up to so many multiplications, a millisecond's work, waking others may take longer than it spares. */
const FEW = 2 ** 25

/** A worker; one that cannot begin has taken no tile, and the others do without it. */
const source = `
const { board, koffi, file, thread } = require('node:worker_threads').workerData
const sgemm = require(koffi).load(file).func('${SGEMM}')
const state = new Int32Array(board, 0, 4)
const [transA, transB, k, alpha, beta, lda, ldb, ldc] = [0, 1, 2, 3, 4, 5, 6, 7]
const shape = new Float64Array(board, ${SHAPE}, ${SHAPE_FIELDS})
const tiles = new Float64Array(board, ${TILES})
for (;;) {
  const seen = Atomics.load(state, ${WAKE})
  for (;;) {
    if (thread >= Atomics.load(state, ${LIMIT})) break
    const tile = Atomics.sub(state, ${LEFT}, 1) - 1
    if (tile < 0) break
    const at = tile * ${TILE_FIELDS}
    sgemm(${ROW_MAJOR}, shape[transA], shape[transB], tiles[at], tiles[at + 1], shape[k], shape[alpha],
      BigInt(tiles[at + 2]), shape[lda], BigInt(tiles[at + 3]), shape[ldb], shape[beta],
      BigInt(tiles[at + 4]), shape[ldc])
    Atomics.add(state, ${DONE}, 1)
    Atomics.notify(state, ${DONE})
  }
  Atomics.wait(state, ${WAKE}, seen)
}`

export function blasPool(library: BlasLibrary): BlasPool {
  return { library, board: new SharedArrayBuffer(BYTES), workers: 0 }
}

/** Multiplies all tiles, on at most `threads` threads. */
export function multiplyTiles(
  pool: BlasPool,
  shape: TileShape,
  tiles: readonly Tile[],
  threads: number,
): void {
  const work = tiles.reduce((sum, [m, n]) => sum + m * n * shape.k, 0)
  const crowd = work <= FEW ? 1 : Math.min(threads, tiles.length)
  if (crowd === 1) {
    for (const tile of tiles) multiplyTile(pool.library, shape, tile)
    return
  }
  startWorkers(pool, crowd - 1)
  for (let first = 0; first < tiles.length; first += MOST_TILES) {
    shareOut(pool, shape, tiles.slice(first, first + MOST_TILES), crowd)
  }
}

function shareOut({ library, board }: BlasPool, shape: TileShape, tiles: readonly Tile[], crowd: number) {
  const state = new Int32Array(board, 0, 4)
  const { isATransposed, isBTransposed, k, alpha, beta, strides } = shape
  new Float64Array(board, SHAPE, SHAPE_FIELDS).set([
    ...[transposition(isATransposed), transposition(isBTransposed), k, alpha, beta],
    ...strides,
  ])
  new Float64Array(board, TILES).set(tiles.flat())
  Atomics.store(state, DONE, 0)
  Atomics.store(state, LIMIT, crowd)
  // what comes before is seen by whoever takes a tile, a worker too that is late in leaving the job before
  Atomics.store(state, LEFT, tiles.length)
  Atomics.add(state, WAKE, 1)
  Atomics.notify(state, WAKE)
  for (;;) {
    const tile = Atomics.sub(state, LEFT, 1) - 1
    if (tile < 0) break
    multiplyTile(library, shape, tiles[tile])
    Atomics.add(state, DONE, 1)
  }
  for (;;) {
    const done = Atomics.load(state, DONE)
    if (done === tiles.length) return
    Atomics.wait(state, DONE, done)
  }
}

const transposition = (isTransposed: boolean) => (isTransposed ? TRANSPOSED : PLAIN)

function multiplyTile({ sgemm }: BlasLibrary, shape: TileShape, [m, n, a, b, c]: Tile): void {
  const { isATransposed, isBTransposed, k, alpha, beta, strides } = shape
  const [lda, ldb, ldc] = strides
  const [transA, transB] = [transposition(isATransposed), transposition(isBTransposed)]
  sgemm(ROW_MAJOR, transA, transB, m, n, k, alpha, BigInt(a), lda, BigInt(b), ldb, beta, BigInt(c), ldc)
}

function startWorkers(pool: BlasPool, wanted: number): void {
  const { board, library } = pool
  while (pool.workers < wanted) {
    pool.workers++
    const workerData = {
      board,
      koffi: createRequire(import.meta.url).resolve('koffi'),
      file: library.file,
      thread: pool.workers,
    }
    const worker = new Worker(source, {
      eval: true,
      execArgv: [],
      workerData,
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
    })
    worker.on('error', () => {})
    worker.unref()
  }
}
