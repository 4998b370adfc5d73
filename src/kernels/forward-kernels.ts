import type { ForwardKernels } from './forward-contract.js'
import { kernels, replacedProducts, threadCount } from './kernels.js'
import { referenceForwardKernels } from './reference/forward.js'
import { wasmForwardKernels } from './wasm/forward/forward.js'
import { baseline, relaxed } from './wasm/runtime/forward-binaries.js'
import { createPool, type Pool, stopWorkers } from './wasm/runtime/pool.js'
import { type KernelBuild, startRuntime } from './wasm/runtime/runtime.js'

interface Started {
  readonly build: KernelBuild
  readonly pool: Pool
  readonly kernels: ForwardKernels
  /** The same with products of {@link replacedProducts}. */
  combined?: ForwardKernels
}

let started: Started | undefined

/**
 * The kernels of the forward pass, of the same build and on as many threads as {@link kernels}. Their module, memory and
 * threads are their own, so that pages, which only quantize layers, need not load them.
 */
export function forwardKernels(): ForwardKernels {
  const { name } = kernels()
  if (name === 'reference') return referenceForwardKernels
  if (started?.build !== name) {
    if (started !== undefined) stopWorkers(started.pool)
    const pool = createPool(startRuntime(name, { baseline, relaxed }), threadCount())
    started = { build: name, pool, kernels: wasmForwardKernels(pool) }
  }
  started.pool.threads = threadCount()
  const products = replacedProducts()
  if (products === undefined) return started.kernels
  if (started.combined?.gemm !== products.gemm) {
    const attend = products.attendWith(started.kernels)
    started.combined = { ...started.kernels, gemm: products.gemm, attend }
  }
  return started.combined
}
