import { wholeBlock } from '../contract.js'
import type { ForwardKernels } from '../forward-contract.js'
import { inPlaceProducts } from './in-place-product.js'
import { jobKinds } from './job.js'
import type { KernelMemory } from './memory.js'
import { type Pool, runJob } from './pool.js'
import { productKernels } from './product.js'
import { residentArrays } from './resident.js'
import { copyIn, withMemory } from './stage.js'

/** Values of an element-wise tile, about. */
const TILE_VALUES = 2 ** 14
/** Queries of a tile of attention: the fewer, the more often a head's keys are packed. */
const TILE_QUERIES = 256
/** As in `assembly/attention.ts`. */
const STRIP = 8

/** The kernels of the forward pass on `pool`, which runs the module `forward-binaries.ts`. */
export function wasmForwardKernels(pool: Pool): ForwardKernels {
  const { heap } = pool.runtime
  const arrays = residentArrays(heap)
  const { allocate, release, addressOf } = arrays
  return {
    allocate,
    release,
    ...inPlaceProducts(pool, arrays, productKernels(pool)),

    normalizeRows(rows, cols, x, scale, epsilon, y) {
      const perTile = Math.max(1, Math.floor(TILE_VALUES / cols))
      withCopies(heap, [scale], (atScale) => {
        const addresses = [addressOf(x), atScale, addressOf(y)]
        const params = [...addresses, rows, cols, perTile, { f64: epsilon }]
        runJob(pool, jobKinds.normalizeRows, Math.ceil(rows / perTile), params, 0)
      })
    },

    attend({ sequences, length, heads, kvHeads, headDim, window, ...task }) {
      const tokens = [task.queries, task.keys, task.values, task.output].map(addressOf)
      const angles = [task.cos, task.sin].map((table) => table.subarray(0, length * headDim))
      const seen = Math.min(window ?? length, length)
      const perTile = Math.min(TILE_QUERIES, length)
      const tiles = sequences * kvHeads * Math.ceil(length / perTile)
      withCopies(heap, angles, (...tables) => {
        const sizes = [length, heads, kvHeads, headDim, seen, perTile]
        const params = [...tokens, ...tables, ...sizes, { f32: 1 / Math.sqrt(headDim) }]
        runJob(
          pool,
          jobKinds.attend,
          tiles,
          params,
          attentionScratch(Math.min(length, seen + perTile), headDim),
        )
      })
    },

    gate(gate, up, y) {
      const addresses = [gate, up, y].map(addressOf)
      const tiles = Math.ceil(y.length / TILE_VALUES)
      runJob(pool, jobKinds.gate, tiles, [...addresses, y.length, TILE_VALUES], 0)
    },

    predict(rows, cols, logits) {
      const perTile = Math.max(1, Math.floor(TILE_VALUES / cols))
      return withMemory(heap, [8 * rows, 4 * rows], (atSums, atTops) => {
        const params = [addressOf(logits), atSums, atTops, rows, cols, perTile]
        runJob(pool, jobKinds.predict, Math.ceil(rows / perTile), params, 0)
        return {
          sums: new Float64Array(heap.memory.buffer, atSums, rows).slice(),
          tops: new Int32Array(heap.memory.buffer, atTops, rows).slice(),
        }
      })
    },

    compare(rows, cols, expected, actual, logSums) {
      const perTile = Math.max(1, Math.floor(TILE_VALUES / cols))
      return withMemory(heap, [8 * rows, 8 * rows], (atLogSums, atGaps) => {
        new Float64Array(heap.memory.buffer, atLogSums, rows).set(logSums)
        const logits = [expected, actual].map(addressOf)
        const params = [...logits, atLogSums, atGaps, rows, cols, perTile]
        runJob(pool, jobKinds.compare, Math.ceil(rows / perTile), params, 0)
        return new Float64Array(heap.memory.buffer, atGaps, rows).slice()
      })
    },
  }
}

/** Bytes of scratch of a thread: the layout in `assembly/attention.ts`. */
function attentionScratch(keys: number, headDim: number): number {
  const [n, d] = [keys, headDim].map((count) => 4 * Math.ceil(count / 4))
  return 4 * (STRIP * (2 * d + 1 + n) + 2 * n * d)
}

function withCopies<T>(heap: KernelMemory, arrays: readonly Float32Array[], use: (...at: number[]) => T): T {
  return withMemory(
    heap,
    arrays.map((array) => array.byteLength),
    (...at) => {
      for (const [i, array] of arrays.entries()) {
        copyIn(heap, wholeBlock(array, array.length), 0, 0, 1, array.length, at[i])
      }
      return use(...at)
    },
  )
}
