import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ForwardKernels } from '../../src/kernels/forward-contract.js'
import { decodeBfloats, encodeBfloats } from '../../src/kernels/half.js'
import { referenceForwardKernels } from '../../src/kernels/reference/forward.js'
import { normals } from '../support/random-matrix.js'
import {
  builds,
  isSame,
  onThreads,
  startForwardKernels,
  unwritten,
  withArrays,
  withinLarger,
} from './forward-arrays.js'

interface ProductShape {
  readonly m: number
  readonly n: number
  readonly k: number
  readonly seed: number
}

const shapes: fc.Arbitrary<ProductShape> = fc.record({
  m: fc.integer({ min: 1, max: 6 }),
  n: fc.integer({ min: 1, max: 80 }),
  k: fc.integer({ min: 1, max: 90 }),
  seed: fc.nat(1e6),
})

function bfloatsOf(values: Float32Array): Uint16Array {
  const bits = new Uint16Array(values.length)
  encodeBfloats(values, bits)
  return bits
}

function product(kernels: ForwardKernels, { m, n, k }: ProductShape, x: Float32Array, bits: Uint16Array) {
  const room = new Float32Array(Math.ceil(bits.length / 2))
  return withArrays(kernels, [x, room], (own, words) => {
    const w = new Uint16Array(words.buffer, words.byteOffset, bits.length)
    w.set(bits)
    return withinLarger(kernels, unwritten(m * n), (y) => kernels.multiplyBfloats(m, n, k, own, w, y))
  })
}

function operandsOf({ m, n, k, seed }: ProductShape) {
  return { x: normals(m * k, seed), bits: bfloatsOf(normals(n * k, seed + 1)) }
}

describe('the reference', () => {
  it('multiplies by the values that the bits stand for', () => {
    const bits = bfloatsOf(Float32Array.of(1, 2, -0.5, 4))
    const y = new Float32Array(2)
    referenceForwardKernels.multiplyBfloats(1, 2, 2, Float32Array.of(3, 10), bits, y)
    expect([...y]).toEqual([23, 38.5])
  })
})

describe.each(builds)('products with a weight in bfloat16, %s build', (build) => {
  const { pool, kernels } = startForwardKernels(build)

  it('are as the reference for any number of rows and columns', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { m, n, k } = shape
        const { x, bits } = operandsOf(shape)
        const [actual, expected] = [kernels, referenceForwardKernels].map((on) => product(on, shape, x, bits))
        const weights = new Float32Array(n * k)
        decodeBfloats(bits, weights)
        const magnitudes = new Float32Array(m * n)
        const positive = [x, weights].map((values) => values.map(Math.abs))
        referenceForwardKernels.multiplyBfloats(m, n, k, positive[0], bfloatsOf(positive[1]), magnitudes)
        for (const [i, value] of actual.entries()) {
          expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(2 ** -20 * magnitudes[i])
        }
      }),
      { numRuns: 200 },
    )
  })

  it('let NaN and infinity through to the row that has them, and no other', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const shape = { m: 1, n: 6, k: 11, seed: 1 }
      const { x } = operandsOf(shape)
      const weights = normals(66, 2)
      weights[4 * 11 + 9] = bad
      const y = product(kernels, shape, x, bfloatsOf(weights))
      expect([...y].map(Number.isFinite)).toEqual([true, true, true, true, false, true])
    }
  })

  it('give the same bits on 1, 2 and 3 threads', () => {
    const shape = { m: 2, n: 150, k: 40, seed: 3 }
    const { x, bits } = operandsOf(shape)
    const results = onThreads(pool, () => product(kernels, shape, x, bits))
    for (const result of results) expect(isSame(result, results[0])).toBe(true)
  })
})
