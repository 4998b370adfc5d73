import type { LayerKernels } from '../trellis-contract.js'
import { clusterKernels } from './clustering/clustering.js'
import { columnKernels } from './clustering/columns.js'
import { productKernels } from './product.js'
import type { Pool } from './runtime/pool.js'
import { trellisKernels } from './trellis/trellis.js'

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
