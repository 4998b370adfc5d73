import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Block, ProductForm, ProductKernels } from '../../src/kernels/contract.js'
import { referenceKernels } from '../../src/kernels/reference/kernels.js'
import { productKernels } from '../../src/kernels/wasm/product.js'
import { createPool, type Pool } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, type KernelBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import { randomGenerator, randomNormal } from '../../src/random.js'
import { FLOAT32_ROUNDING } from '../support/tolerance.js'

const builds: readonly KernelBuild[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']
const pools = new Map(builds.map((build) => [build, createPool(startRuntime(build), 1)]))
const poolOf = (build: KernelBuild): Pool => pools.get(build)!

interface Case {
  readonly form: ProductForm
  readonly m: number
  readonly n: number
  readonly k: number
  readonly alpha: number
  readonly beta: 0 | 1
  readonly gap: number
  readonly seed: number
}

const cases = (largest: number) =>
  fc.record({
    form: fc.constantFrom<ProductForm>('AB', 'ABt', 'AtB'),
    m: fc.integer({ min: 1, max: largest }),
    n: fc.integer({ min: 1, max: largest }),
    k: fc.integer({ min: 1, max: 2 * largest }),
    alpha: fc.constantFrom(1, -1, 0.37),
    beta: fc.constantFrom<0 | 1>(0, 1),
    gap: fc.integer({ min: 0, max: 3 }),
    seed: fc.integer({ min: 0, max: 1e6 }),
  })

function randomBlock(rows: number, cols: number, gap: number, seed: number): Block {
  const random = randomGenerator(seed)
  const stride = cols + gap
  return {
    data: Float32Array.from({ length: gap + rows * stride }, () => randomNormal(random)),
    offset: gap,
    stride,
  }
}

function operands({ form, m, n, k, gap, seed }: Case) {
  const a = form === 'AtB' ? randomBlock(k, m, gap, seed) : randomBlock(m, k, gap, seed)
  const b = form === 'ABt' ? randomBlock(n, k, gap, seed + 1) : randomBlock(k, n, gap, seed + 1)
  return { a, b, c: randomBlock(m, n, gap, seed + 2) }
}

function run(kernels: ProductKernels, size: Case): Float32Array {
  const { a, b, c } = operands(size)
  kernels.gemm(size.form, size.m, size.n, size.k, size.alpha, a, b, size.beta, c)
  return c.data
}

/** The product in float64, C's surroundings untouched, and for each element the bound that the contract states. */
function oracle(size: Case): { expected: Float64Array; bound: Float64Array } {
  const { form, m, n, k, alpha, beta } = size
  const { a, b, c } = operands(size)
  const expected = Float64Array.from(c.data)
  const bound = new Float64Array(c.data.length)
  const at = (block: Block, i: number, j: number) => block.data[block.offset + i * block.stride + j]
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0
      let magnitude = 0
      for (let p = 0; p < k; p++) {
        const term =
          alpha * (form === 'AtB' ? at(a, p, i) : at(a, i, p)) * (form === 'ABt' ? at(b, j, p) : at(b, p, j))
        sum += term
        magnitude += Math.abs(term)
      }
      const at_ = c.offset + i * c.stride + j
      const before = beta === 1 ? expected[at_] : 0
      expected[at_] = before + sum
      const partialSums = Math.ceil(k / 256) + 2
      bound[at_] = FLOAT32_ROUNDING * ((k + 8) * magnitude + partialSums * (Math.abs(before) + magnitude))
    }
  }
  return { expected, bound }
}

/** Bit for bit; vitest's own comparison takes seconds on arrays of this size. */
function isSame(a: Float32Array, b: Float32Array): boolean {
  const bytes = (x: Float32Array) => new Uint8Array(x.buffer, x.byteOffset, x.byteLength)
  return Buffer.compare(bytes(a), bytes(b)) === 0
}

function expectWithinBound(actual: Float32Array, size: Case): void {
  const { expected, bound } = oracle(size)
  let worst = 0
  for (let i = 0; i < actual.length; i++)
    worst = Math.max(worst, Math.abs(actual[i] - expected[i]) - bound[i])
  expect(worst).toBeLessThanOrEqual(0)
}

describe('reference gemm', () => {
  it('stays within the bound of the contract, and leaves what surrounds C as it was', () => {
    fc.assert(
      fc.property(cases(24), (size) => expectWithinBound(run(referenceKernels, size), size)),
      { numRuns: 100 },
    )
  })
})

describe.each(builds)('gemm, %s build', (build) => {
  const pool = poolOf(build)
  const kernels = productKernels(pool)

  it('stays within the bound of the contract for any shape and form, and leaves what surrounds C as it was', () => {
    fc.assert(
      fc.property(cases(70), (size) => expectWithinBound(run(kernels, size), size)),
      { numRuns: 150 },
    )
  })

  it('stays within the bound where the inner dimension is cut into panels', () => {
    for (const form of ['AB', 'ABt', 'AtB'] as const) {
      const size: Case = { form, m: 13, n: 21, k: 1000, alpha: -1, beta: 1, gap: 1, seed: 7 }
      expectWithinBound(run(kernels, size), size)
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
    const size: Case = { form: 'ABt', m: 301, n: 530, k: 300, alpha: 1, beta: 1, gap: 2, seed: 11 }
    const alone = run(kernels, size)
    for (const threads of [2, 3]) {
      pool.threads = threads
      expect(isSame(run(kernels, size), alone)).toBe(true)
    }
    pool.threads = 1
  })

  it('gives the same bits however little of the operands fits in its memory', () => {
    for (const form of ['AB', 'ABt', 'AtB'] as const) {
      const size: Case = { form, m: 401, n: 203, k: 777, alpha: 1, beta: 0, gap: 1, seed: 5 }
      const whole = run(kernels, size)
      for (const values of [300_000, 150_000, 90_000]) {
        expect(isSame(run(productKernels(pool, values), size), whole)).toBe(true)
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
