import type { LayerKernels } from '../trellis-contract.js'
import { clusterKernels } from './clustering.js'
import { columnKernels } from './columns.js'
import type { Pool } from './pool.js'
import { productKernels } from './product.js'
import { trellisKernels } from './trellis.js'

/** The SIMD kernels on the threads of `pool`. */
export function wasmKernels(pool: Pool): LayerKernels {
  return {
    name: pool.runtime.build,
    ...productKernels(pool),
    ...clusterKernels(pool),
    ...columnKernels(pool),
    ...trellisKernels(pool),
  }
}
