import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { referenceKernels } from '../../src/kernels/reference/kernels.js'
import { productKernels } from '../../src/kernels/wasm/product.js'
import { createPool, type Pool } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, type KernelBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import {
  expectWithinBound,
  isSame,
  operands,
  type ProductCase,
  productCases,
  randomBlock,
  runProduct,
} from './product-cases.js'

const builds: readonly KernelBuild[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']
const pools = new Map(builds.map((build) => [build, createPool(startRuntime(build), 1)]))
const poolOf = (build: KernelBuild): Pool => pools.get(build)!

describe('reference gemm', () => {
  it('stays within the bound of the contract, and leaves what surrounds C as it was', () => {
    fc.assert(
      fc.property(productCases(24), (size) => expectWithinBound(runProduct(referenceKernels, size), size)),
      { numRuns: 100 },
    )
  })
})

describe.each(builds)('gemm, %s build', (build) => {
  const pool = poolOf(build)
  const kernels = productKernels(pool)

  it('stays within the bound of the contract for any shape and form, and leaves what surrounds C as it was', () => {
    fc.assert(
      fc.property(productCases(70), (size) => expectWithinBound(runProduct(kernels, size), size)),
      { numRuns: 150 },
    )
  })

  it('stays within the bound where the inner dimension is cut into panels', () => {
    for (const form of ['AB', 'ABt', 'AtB'] as const) {
      const size: ProductCase = { form, m: 13, n: 21, k: 1000, alpha: -1, beta: 1, gap: 1, seed: 7 }
      expectWithinBound(runProduct(kernels, size), size)
    }
  })

  it('reads nothing of C when beta is 0', () => {
    const { a, b, c } = operands({ form: 'AB', m: 9, n: 17, k: 5, alpha: 1, beta: 0, gap: 0, seed: 3 })
    c.data.fill(Number.NaN)
    kernels.gemm('AB', 9, 17, 5, 1, a, b, 0, c)
    expect(c.data.every(Number.isFinite)).toBe(true)
  })

  it('clears C when the inner dimension is empty and beta is 0', () => {
    const c = randomBlock(3, 4, 0, 1)
    kernels.gemm('AB', 3, 4, 0, 1, randomBlock(3, 1, 0, 2), randomBlock(1, 4, 0, 3), 0, c)
    expect([...c.data]).toEqual(Array(12).fill(0))
  })

  it('carries NaN and infinity through', () => {
    const c = randomBlock(1, 2, 0, 1)
    const a = { data: Float32Array.of(Number.POSITIVE_INFINITY, 1), offset: 0, stride: 2 }
    const b = { data: Float32Array.of(1, 2, Number.NaN, 3), offset: 0, stride: 2 }
    kernels.gemm('AB', 1, 2, 2, 1, a, b, 0, c)
    expect([...c.data]).toEqual([Number.NaN, Number.POSITIVE_INFINITY])
  })

  it('gives the same bits on 1, 2 and 3 threads', () => {
    const size: ProductCase = { form: 'ABt', m: 301, n: 530, k: 300, alpha: 1, beta: 1, gap: 2, seed: 11 }
    const alone = runProduct(kernels, size)
    for (const threads of [2, 3]) {
      pool.threads = threads
      expect(isSame(runProduct(kernels, size), alone)).toBe(true)
    }
    pool.threads = 1
  })

  it('gives the same bits however little of the operands fits in its memory', () => {
    for (const form of ['AB', 'ABt', 'AtB'] as const) {
      const size: ProductCase = { form, m: 401, n: 203, k: 777, alpha: 1, beta: 0, gap: 1, seed: 5 }
      const whole = runProduct(kernels, size)
      for (const values of [300_000, 150_000, 90_000]) {
        expect(isSame(runProduct(productKernels(pool, values), size), whole)).toBe(true)
      }
    }
  })

  it('gram is the upper triangle of the product with itself, also by panels', () => {
    const [tokens, n] = [300, 391]
    const x = randomBlock(tokens, n, 2, 9)
    const whole = { data: new Float32Array(n * n), offset: 0, stride: n }
    kernels.gemm('AtB', n, n, tokens, 1, x, x, 0, whole)
    for (const values of [2 ** 24, 120_000]) {
      const half = { data: new Float32Array(n * n), offset: 0, stride: n }
      productKernels(pool, values).gram(tokens, n, x, half)
      for (let i = 0; i < n; i++) {
        const upper = [i * n + i, (i + 1) * n] as const
        expect(isSame(half.data.subarray(...upper), whole.data.subarray(...upper))).toBe(true)
      }
    }
  })
})
