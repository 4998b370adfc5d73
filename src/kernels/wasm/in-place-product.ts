import type { Block, ProductKernels } from '../contract.js'
import type { Pool } from './pool.js'
import { DEPTH, multiplySlice, packedBytes } from './product.js'
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
      withMemory(heap, [4 * n * Math.min(DEPTH, k), packedBytes(n, k)], (atB, packed) => {
        for (let from = 0; from < k; from += DEPTH) {
          const depth = Math.min(DEPTH, k - from)
          copyIn(heap, b, from, 0, depth, n, atB)
          multiplySlice(pool, m, n, depth, packed, {
            a: { at: addressOf(a) + 4 * from, stride: a.stride },
            b: { at: atB, stride: n },
            c: { at: addressOf(c), stride: c.stride },
            alpha,
            adds: beta === 1 || from > 0,
          })
        }
      })
    },
  }
}
