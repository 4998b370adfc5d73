import type { Kernels } from '../contract.js'
import { clusterKernels } from './clustering.js'
import { columnKernels } from './columns.js'
import type { Pool } from './pool.js'
import { productKernels } from './product.js'

/** The SIMD kernels on the threads of `pool`. */
export function wasmKernels(pool: Pool): Kernels {
  return {
    name: pool.runtime.build,
    ...productKernels(pool),
    ...clusterKernels(pool),
    ...columnKernels(pool),
  }
}
