import type { ProductKernels } from '../contract.js'
import type { PackedKernels } from '../packed-contract.js'
import { referencePacked } from '../reference/packed.js'
import type { Pool } from './pool.js'
import type { ResidentArrays } from './resident.js'

export function packedKernels(
  _pool: Pool,
  _arrays: ResidentArrays,
  _products: Pick<ProductKernels, 'gemm'>,
): PackedKernels {
  return referencePacked
}
