import { requireWhole } from '../common/check-option.js'
import type { KernelName } from './contract.js'
import type { LibraryProducts } from './forward-contract.js'
import { referenceKernels } from './reference/kernels.js'
import type { LayerKernels } from './trellis-contract.js'
import { wasmKernels } from './wasm/kernels.js'
import { availableThreads, MOST_THREADS } from './wasm/runtime/available-threads.js'
import { createPool, type Pool, stopWorkers } from './wasm/runtime/pool.js'
import { bestBuild, type KernelBuild, startRuntime } from './wasm/runtime/runtime.js'

let current: LayerKernels | undefined
let products: LibraryProducts | undefined
/** `current` with its products replaced by `products`. */
let combined: LayerKernels | undefined
let pool: Pool | undefined
let threads: number | undefined

/** The kernels in use; started at the first call: the fastest build that the engine runs. */
export function kernels(): LayerKernels {
  current ??= start(bestBuild())
  if (products === undefined) return current
  combined ??= { ...current, ...products }
  return combined
}

/** Has `replacement` do all products from now on; undefined: the kernels' own. */
export function useProducts(replacement: LibraryProducts | undefined): void {
  products = replacement
  combined = undefined
}

/** What does the products in place of the kernels' own; undefined: nothing does. */
export function replacedProducts(): LibraryProducts | undefined {
  return products
}

/** Makes `name` the kernels in use. For tests and benchmarks; the default is the fastest. */
export function useKernels(name: KernelName): LayerKernels {
  if (pool !== undefined) stopWorkers(pool)
  pool = undefined
  current = name === 'reference' ? referenceKernels : start(name)
  combined = undefined
  return kernels()
}

/**
 * Sets how many threads the kernels use from now on, in the whole process; results do not depend on it. Default: the
 * environment variable `GPTVQ_THREADS`, else the cores that the process may use.
 *
 * @throws OptionError when `count` is not a whole number from 1 to 256
 */
export function setThreads(count: number): void {
  requireWhole('threads', count, 1, MOST_THREADS)
  threads = count
  if (pool !== undefined) pool.threads = count
}

/** How many threads the kernels use: see {@link setThreads}. */
export function threadCount(): number {
  threads ??= availableThreads()
  return threads
}

function start(build: KernelBuild): LayerKernels {
  pool = createPool(startRuntime(build), threadCount())
  return wasmKernels(pool)
}
