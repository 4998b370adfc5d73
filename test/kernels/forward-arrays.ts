import { afterAll, expect } from 'vitest'
import type { ForwardKernels } from '../../src/kernels/forward-contract.js'
import { wasmForwardKernels } from '../../src/kernels/wasm/forward/forward.js'
import { baseline, relaxed } from '../../src/kernels/wasm/runtime/forward-binaries.js'
import { createPool, type Pool, stopWorkers } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, type KernelBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'

/** The builds that this engine runs. */
export const builds: readonly KernelBuild[] =
  bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']

/** The SIMD kernels on a pool of their own, which ends with the tests of the surrounding block. */
export function startForwardKernels(build: KernelBuild): { pool: Pool; kernels: ForwardKernels } {
  const pool = createPool(startRuntime(build, { baseline, relaxed }), 1)
  afterAll(() => stopWorkers(pool))
  return { pool, kernels: wasmForwardKernels(pool) }
}

/** Allocates arrays, filled with `contents`, in the memory of `kernels`, and gives them back after `use`. */
export function withArrays<T>(
  kernels: ForwardKernels,
  contents: readonly ArrayLike<number>[],
  use: (...arrays: Float32Array[]) => T,
): T {
  const arrays = contents.map((values) => {
    const array = kernels.allocate(values.length)
    array.set(values)
    return array
  })
  try {
    return use(...arrays)
  } finally {
    for (const array of arrays) kernels.release(array)
  }
}

export const unwritten = (size: number) => new Float32Array(size).fill(Number.NaN)

/** The largest difference, in units of `1 + |expected|`; Infinity where one is NaN and the other is not. */
export function largestGap(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length)
  let gap = 0
  for (let i = 0; i < expected.length; i++) {
    if (Object.is(actual[i], expected[i])) continue
    const distance = Math.abs(actual[i] - expected[i]) / (1 + Math.abs(expected[i]))
    gap = Math.max(gap, Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance)
  }
  return gap
}

/** Whether they are the same, bit for bit. */
export function isSame(a: Float32Array, b: Float32Array): boolean {
  const bytes = (x: Float32Array) => new Uint8Array(x.buffer, x.byteOffset, x.byteLength)
  return Buffer.compare(bytes(a), bytes(b)) === 0
}

/** What `run` gives on 1, 2 and 3 threads; the pool is left with one. */
export function onThreads<T>(pool: Pool, run: () => T): T[] {
  const results = [1, 2, 3].map((threads) => {
    pool.threads = threads
    return run()
  })
  pool.threads = 1
  return results
}

/** Runs `use` on a part of a larger array that must stay as it is around that part, and gives back a copy of the part. */
export function withinLarger(
  kernels: ForwardKernels,
  content: ArrayLike<number>,
  use: (part: Float32Array) => void,
): Float32Array {
  const around = 5
  const larger = Float32Array.from({ length: content.length + 2 * around }, (_, i) => i)
  larger.set(content, around)
  return withArrays(kernels, [larger], (array) => {
    use(array.subarray(around, around + content.length))
    const surroundings = [...array.subarray(0, around), ...array.subarray(around + content.length)]
    const untouched = [...larger.subarray(0, around), ...larger.subarray(around + content.length)]
    expect(surroundings).toEqual(untouched)
    return array.slice(around, around + content.length)
  })
}
