import type { ForwardKernels } from '../../forward-contract.js'
import { inPlaceProducts } from '../in-place-product.js'
import { packedKernels } from '../packed/packed.js'
import { productKernels } from '../product.js'
import { jobKinds } from '../runtime/job.js'
import { type Pool, runJob } from '../runtime/pool.js'
import { residentArrays } from '../runtime/resident.js'
import { withCopies, withMemory } from '../runtime/stage.js'
import { attentionKernels } from './attention.js'
import { elementKernels } from './elements.js'

/** Values of the rows of a tile, about. */
const TILE_VALUES = 2 ** 14
/** Rows of a tile of a weight in bfloat16. */
const BFLOAT_ROWS = 32

/** The kernels of the forward pass on `pool`, which runs the module `forward-binaries.ts`. */
export function wasmForwardKernels(pool: Pool): ForwardKernels {
  const { heap } = pool.runtime
  const arrays = residentArrays(heap)
  const { allocate, release, addressOf } = arrays
  const products = inPlaceProducts(pool, arrays, productKernels(pool))
  return {
    allocate,
    release,
    ...products,
    ...packedKernels(pool, arrays),
    ...attentionKernels(pool, arrays),
    ...elementKernels(pool, arrays),

    normalize({ runs, size, kind, epsilon, scale, shift, x, y }) {
      const perTile = Math.max(1, Math.floor(TILE_VALUES / size))
      withCopies(heap, shift === undefined ? [scale] : [scale, shift], (atScale, atShift = 0) => {
        const addresses = [addressOf(x), atScale, atShift, addressOf(y)]
        const sizes = [runs, size, perTile, scale.length / size, Number(kind === 'layer')]
        const params = [...addresses, ...sizes, { f64: epsilon }]
        runJob(pool, jobKinds.normalize, Math.ceil(runs / perTile), params, 0)
      })
    },

    multiplyBfloats(m, n, k, x, w, y) {
      const params = [addressOf(x), addressOf(w), addressOf(y), m, n, k, BFLOAT_ROWS]
      runJob(pool, jobKinds.multiplyBfloats, Math.ceil(n / BFLOAT_ROWS), params, 0)
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

    weigh(rows, cols, shares, logits) {
      const perTile = Math.max(1, Math.floor(TILE_VALUES / cols))
      return withMemory(heap, [8 * rows], (atSums) => {
        const params = [addressOf(shares), addressOf(logits), atSums, rows, cols, perTile]
        runJob(pool, jobKinds.weighLogits, Math.ceil(rows / perTile), params, 0)
        return new Float64Array(heap.memory.buffer, atSums, rows).slice()
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
