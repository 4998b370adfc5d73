import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { dot, multiplyAdd, multiplyTransposedAdd } from '../../src/kernels/reference/product.js'
import { FLOAT32_ROUNDING } from '../support/tolerance.js'

interface Block {
  readonly rows: number
  readonly cols: number
  readonly offset: number
  readonly stride: number
  readonly data: Float32Array
}

/** A block inside a larger array of random numbers. */
function randomBlock(rows: number, cols: number, offset: number, gap: number, seed: number): Block {
  const random = randomGenerator(seed)
  const stride = cols + gap
  const data = Float32Array.from({ length: offset + rows * stride + 3 }, () => randomNormal(random))
  return { rows, cols, offset, stride, data }
}

const at = (block: Block, i: number, j: number) => block.data[block.offset + i * block.stride + j]

interface Case {
  readonly m: number
  readonly n: number
  readonly k: number
  readonly alpha: number
  readonly offset: number
  readonly gap: number
  readonly seed: number
}

type Product = typeof multiplyAdd

/** Runs the product and compares every element of C's array, inside and outside the block, to float64 triple loops. */
function expectExact(product: Product, transposed: boolean, size: Case): void {
  const { m, n, k, alpha, offset, gap, seed } = size
  const a = randomBlock(m, k, offset, gap, seed)
  const b = transposed
    ? randomBlock(n, k, offset + 1, gap, seed + 1)
    : randomBlock(k, n, offset + 1, gap, seed + 1)
  const c = randomBlock(m, n, offset + 2, gap, seed + 2)
  const expected = Float64Array.from(c.data)
  const tolerance = new Float64Array(c.data.length)
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0
      let size = Math.abs(at(c, i, j))
      for (let p = 0; p < k; p++) {
        const term = alpha * at(a, i, p) * (transposed ? at(b, j, p) : at(b, p, j))
        sum += term
        size += Math.abs(term)
      }
      const position = c.offset + i * c.stride + j
      expected[position] += sum
      // C is rounded to float32 once per partial sum stored, at most k times; no partial sum exceeds `size`
      tolerance[position] = (k + 1) * FLOAT32_ROUNDING * size
    }
  }
  const [aBefore, bBefore] = [a.data.slice(), b.data.slice()]
  product(m, n, k, alpha, a.data, a.offset, a.stride, b.data, b.offset, b.stride, c.data, c.offset, c.stride)
  const wrong = [...c.data.keys()].filter((i) => !(Math.abs(c.data[i] - expected[i]) <= tolerance[i]))
  expect(wrong).toEqual([])
  expect(a.data).toEqual(aBefore)
  expect(b.data).toEqual(bBefore)
}

const products = [
  { name: 'multiplyAdd', product: multiplyAdd, transposed: false },
  { name: 'multiplyTransposedAdd', product: multiplyTransposedAdd, transposed: true },
]

const cases = fc.record({
  m: fc.integer({ min: 1, max: 9 }),
  n: fc.integer({ min: 1, max: 19 }),
  k: fc.integer({ min: 1, max: 19 }),
  alpha: fc.constantFrom(1, -1, 0.5),
  offset: fc.integer({ min: 0, max: 7 }),
  gap: fc.integer({ min: 0, max: 5 }),
  seed: fc.integer({ min: 0, max: 1e6 }),
})

describe.each(products)('$name', ({ product, transposed }) => {
  it('equals a float64 triple loop over random shapes, offsets and strides, and touches its block only', () => {
    fc.assert(
      fc.property(cases, (size) => expectExact(product, transposed, size)),
      { numRuns: 300 },
    )
  })

  it.each([
    [1, 1, 1],
    [3, 1024, 5],
    [2, 1025, 7],
    [3, 2051, 6],
    [130, 67, 65],
    [1, 3, 1500],
  ])('equals a float64 triple loop for %d x %d with inner dimension %d', (m, n, k) => {
    expectExact(product, transposed, { m, n, k, alpha: -1, offset: 3, gap: 2, seed: m + n + k })
  })

  it('leaves C as it is when the inner dimension is 0', () => {
    const c = Float32Array.of(1, 2, 3, 4)
    product(2, 2, 0, 1, new Float32Array(4), 0, 2, new Float32Array(4), 0, 2, c, 0, 2)
    expect([...c]).toEqual([1, 2, 3, 4])
  })
})

describe('dot', () => {
  it('sums in float64: small terms survive beside a large one', () => {
    const a = Float32Array.of(9, 2 ** 24, 1, 1, 1, 9)
    const b = Float32Array.of(1, 1, 1, 1)
    expect(dot(a, 1, b, 0, 4)).toBe(2 ** 24 + 3)
  })
})
