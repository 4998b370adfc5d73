import type { Kernels } from '../contract.js'
import { clusterKernels } from './clustering.js'
import { columnKernels } from './columns.js'
import { forwardKernels } from './forward.js'
import { inPlaceProducts } from './in-place-product.js'
import type { Pool } from './pool.js'
import { productKernels } from './product.js'
import { residentArrays } from './resident.js'

/** The SIMD kernels on the threads of `pool`. */
export function wasmKernels(pool: Pool): Kernels {
  const arrays = residentArrays(pool.runtime.heap)
  const products = productKernels(pool)
  return {
    name: pool.runtime.build,
    ...products,
    ...inPlaceProducts(pool, arrays, products),
    ...clusterKernels(pool),
    ...columnKernels(pool),
    ...forwardKernels(pool, arrays),
  }
}
