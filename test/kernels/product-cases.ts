import fc from 'fast-check'
import { expect } from 'vitest'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import type { Block, ProductForm, ProductKernels } from '../../src/kernels/contract.js'
import { FLOAT32_ROUNDING } from '../support/tolerance.js'

export interface ProductCase {
  readonly form: ProductForm
  readonly m: number
  readonly n: number
  readonly k: number
  readonly alpha: number
  readonly beta: 0 | 1
  readonly gap: number
  readonly seed: number
}

export const productCases = (largest: number) =>
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

export function randomBlock(rows: number, cols: number, gap: number, seed: number): Block {
  const random = randomGenerator(seed)
  const stride = cols + gap
  return {
    data: Float32Array.from({ length: gap + rows * stride }, () => randomNormal(random)),
    offset: gap,
    stride,
  }
}

export function operands({ form, m, n, k, gap, seed }: ProductCase) {
  const a = form === 'AtB' ? randomBlock(k, m, gap, seed) : randomBlock(m, k, gap, seed)
  const b = form === 'ABt' ? randomBlock(n, k, gap, seed + 1) : randomBlock(k, n, gap, seed + 1)
  return { a, b, c: randomBlock(m, n, gap, seed + 2) }
}

export function runProduct(kernels: ProductKernels, size: ProductCase): Float32Array {
  const { a, b, c } = operands(size)
  kernels.gemm(size.form, size.m, size.n, size.k, size.alpha, a, b, size.beta, c)
  return c.data
}

/** The product in float64, C's surroundings untouched, and for each element the bound that the contract states. */
function oracle(size: ProductCase): { expected: Float64Array; bound: Float64Array } {
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
export function isSame(a: Float32Array, b: Float32Array): boolean {
  const bytes = (x: Float32Array) => new Uint8Array(x.buffer, x.byteOffset, x.byteLength)
  return Buffer.compare(bytes(a), bytes(b)) === 0
}

export function expectWithinBound(actual: Float32Array, size: ProductCase): void {
  const { expected, bound } = oracle(size)
  let worst = 0
  for (let i = 0; i < actual.length; i++)
    worst = Math.max(worst, Math.abs(actual[i] - expected[i]) - bound[i])
  expect(worst).toBeLessThanOrEqual(0)
}
