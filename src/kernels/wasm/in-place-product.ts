import type { Block, ProductKernels } from '../contract.js'
import { jobKinds } from './job.js'
import { type Pool, runJob } from './pool.js'
import { DEPTH, NO_DIAGONAL, PACKED_COLUMNS, TILE_COLUMNS, TILE_ROWS } from './product.js'
import type { ResidentArrays } from './resident.js'
import { copyIn, withMemory } from './stage.js'

/** Products `A B` that leave A and C where they are, if both are in the kernels' memory; all others are `copying`'s. */
export function inPlaceProducts(
  pool: Pool,
  arrays: ResidentArrays,
  copying: ProductKernels,
): Pick<ProductKernels, 'gemm'> {
  const { heap } = pool.runtime
  const addressOf = ({ data, offset }: Block) => arrays.addressOf(data) + 4 * offset
  return {
    gemm(form, m, n, k, alpha, a, b, beta, c) {
      const isInPlace = form === 'AB' && arrays.has(a.data) && arrays.has(c.data)
      if (!isInPlace || m * n * k === 0) return copying.gemm(form, m, n, k, alpha, a, b, beta, c)
      const most = Math.min(DEPTH, k)
      const packings = Math.ceil(n / PACKED_COLUMNS)
      const tiles = Math.ceil(m / TILE_ROWS) * Math.ceil(n / TILE_COLUMNS)
      withMemory(heap, [4 * most * n, 4 * most * 8 * Math.ceil(n / 8)], (atB, packed) => {
        for (let from = 0; from < k; from += DEPTH) {
          const depth = Math.min(DEPTH, k - from)
          copyIn(heap, b, from, 0, depth, n, atB)
          runJob(pool, jobKinds.packRight, packings, [atB, n, depth, n, 0, packed], 0)
          const left = [addressOf(a) + 4 * from, a.stride, 0]
          const sizes = [packed, addressOf(c), c.stride, m, n, depth, TILE_ROWS, TILE_COLUMNS]
          const params = [...left, ...sizes, { f32: alpha }, Number(beta === 1 || from > 0), NO_DIAGONAL]
          runJob(pool, jobKinds.multiplyTile, tiles, params, 512 + 4 * TILE_ROWS * most)
        }
      })
    },
  }
}
