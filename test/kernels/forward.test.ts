import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ShapeError } from '../../src/common/errors.js'
import { type ProductForm, wholeBlock } from '../../src/kernels/contract.js'
import type { ForwardKernels } from '../../src/kernels/forward-contract.js'
import { referenceForwardKernels } from '../../src/kernels/reference/forward.js'
import { productKernels } from '../../src/kernels/wasm/product.js'
import { createPool } from '../../src/kernels/wasm/runtime/pool.js'
import { startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import { normals } from '../support/random-matrix.js'
import { builds, isSame, largestGap, onThreads, startForwardKernels, withArrays } from './forward-arrays.js'

const seeds = fc.nat(1e6)

const rowShapes = fc.record({
  rows: fc.integer({ min: 1, max: 40 }),
  cols: fc.integer({ min: 1, max: 70 }),
  seed: seeds,
})

function logitsOf(rows: number, cols: number, seed: number): Float32Array {
  const logits = normals(rows * cols, seed, 8)
  // ties, some of them for the largest
  for (let i = 2; i < logits.length; i += 3) logits[i] = Math.round(logits[i - 1])
  return logits
}

function predict(kernels: ForwardKernels, rows: number, cols: number, logits: Float32Array) {
  return withArrays(kernels, [logits], (resident) => kernels.predict(rows, cols, resident))
}

function compare(kernels: ForwardKernels, rows: number, cols: number, seed: number) {
  const expected = logitsOf(rows, cols, seed)
  const actual = expected.map((logit, i) => logit + normals(1, seed + i)[0])
  const { sums, tops } = predict(referenceForwardKernels, rows, cols, expected)
  const logSums = sums.map((sum, row) => Math.log(sum) + expected[row * cols + tops[row]])
  return withArrays(kernels, [expected, actual], (x, y) => kernels.compare(rows, cols, x, y, logSums))
}

describe.each(builds)('the kernels of the forward pass, %s build', (build) => {
  const { pool, kernels } = startForwardKernels(build)
  const quantizing = productKernels(createPool(startRuntime(build), 1))

  it('predict as the reference, ties included', () => {
    fc.assert(
      fc.property(rowShapes, ({ rows, cols, seed }) => {
        const logits = logitsOf(rows, cols, seed)
        const expected = predict(referenceForwardKernels, rows, cols, logits)
        const actual = predict(kernels, rows, cols, logits)
        expect(actual.tops).toEqual(expected.tops)
        expect(largestGap(actual.sums, expected.sums)).toBeLessThan(2 ** -40)
      }),
    )
  })

  it('compare as the reference', () => {
    fc.assert(
      fc.property(rowShapes, ({ rows, cols, seed }) => {
        const expected = compare(referenceForwardKernels, rows, cols, seed)
        expect(largestGap(compare(kernels, rows, cols, seed), expected)).toBeLessThan(2 ** -38)
      }),
    )
  })

  it('weigh logits as the reference', () => {
    fc.assert(
      fc.property(rowShapes, ({ rows, cols, seed }) => {
        const contents = [logitsOf(rows, cols, seed), logitsOf(rows, cols, seed + 1)]
        const weigh = (by: ForwardKernels, arrays: readonly Float32Array[]) =>
          withArrays(by, arrays, (shares, logits) => by.weigh(rows, cols, shares, logits))
        const expected = weigh(referenceForwardKernels, contents)
        const magnitudes = weigh(
          referenceForwardKernels,
          contents.map((values) => values.map(Math.abs)),
        )
        for (const [row, sum] of weigh(kernels, contents).entries()) {
          expect(Math.abs(sum - expected[row])).toBeLessThanOrEqual(2 * cols * 2 ** -53 * magnitudes[row])
        }
      }),
    )
  })

  it('know rows with a logit that is not finite, wherever it is', () => {
    for (const logit of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (let cols = 1; cols < 10; cols++) {
        for (let at = 0; at < cols; at++) {
          const logits = normals(2 * cols, cols)
          logits[cols + at] = logit
          const { sums, tops } = predict(kernels, 2, cols, logits)
          expect([tops[0] >= 0, Number.isFinite(sums[0])]).toEqual([true, true])
          expect([tops[1], sums[1]]).toEqual([-1, Number.NaN])
        }
      }
    }
  })

  it('give the same bits on 1, 2 and 3 threads', () => {
    const results = onThreads(pool, () => {
      const { sums, tops } = predict(kernels, 30, 3000, logitsOf(30, 3000, 1))
      const shares = [normals(40_000, 1), normals(40_000, 2)]
      const weighed = withArrays(kernels, shares, (x, y) => kernels.weigh(20, 2000, x, y))
      return [sums, tops, compare(kernels, 20, 2000, 1), weighed]
    })
    for (const result of results) expect(result).toEqual(results[0])
  })

  it('multiply in place to the bits of the product of ordinary arrays, wherever B is', () => {
    const products = fc.record({
      form: fc.constantFrom<ProductForm>('AB', 'ABt', 'AtB'),
      m: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 300 })),
      n: fc.integer({ min: 1, max: 300 }),
      k: fc.integer({ min: 1, max: 600 }),
      alpha: fc.constantFrom(1, -0.3),
      beta: fc.constantFrom<0 | 1>(0, 1),
      isBThere: fc.boolean(),
      seed: seeds,
    })
    fc.assert(
      fc.property(products, ({ form, m, n, k, alpha, beta, isBThere, seed }) => {
        const [a, b, c] = [m * k + 3, n * k + 3 * (n + k), m * (n + 2)].map((size, i) =>
          normals(size, seed + i),
        )
        const product = (
          of: Pick<ForwardKernels, 'gemm'>,
          left: Float32Array,
          right: Float32Array,
          y: Float32Array,
        ) => {
          const rows = { data: left, offset: 3, stride: form === 'AtB' ? m : k }
          const columns = { data: right, offset: 1, stride: 2 + (form === 'ABt' ? k : n) }
          of.gemm(form, m, n, k, alpha, rows, columns, beta, { data: y, offset: 1, stride: n + 2 })
          return y.slice()
        }
        const inPlace = withArrays(kernels, [a, b, c], (x, right, y) =>
          product(kernels, x, isBThere ? right : b, y),
        )
        expect(isSame(inPlace, product(kernels, a, b, c.slice()))).toBe(true)
        expect(isSame(inPlace, product(quantizing, a, b, c.slice()))).toBe(true)
      }),
      { numRuns: 150 },
    )
  })

  it('multiply large weights that are not in their memory by parts, to the same bits, on 1, 2 and 3 threads', () => {
    const [n, k] = [2100, 2100]
    const b = normals(n * k, 1)
    for (const m of [1, 3, 20]) {
      const product = (right: Float32Array) =>
        withArrays(kernels, [normals(m * k, 2), new Float32Array(m * n)], (x, y) => {
          kernels.gemm('ABt', m, n, k, 1, wholeBlock(x, k), wholeBlock(right, k), 0, wholeBlock(y, n))
          return y.slice()
        })
      const results = [withArrays(kernels, [b], product), ...onThreads(pool, () => product(b))]
      for (const result of results) expect(isSame(result, results[0])).toBe(true)
    }
  })

  it('give a row the same products whatever rows are beside it', () => {
    const [n, k] = [77, 530]
    const [rows, b] = [normals(20 * k, 1), normals(n * k, 2)]
    const products = (m: number) =>
      withArrays(kernels, [rows.subarray(0, m * k), b, new Float32Array(m * n)], (x, right, y) => {
        kernels.gemm('ABt', m, n, k, 1, wholeBlock(x, k), wholeBlock(right, k), 0, wholeBlock(y, n))
        return y.slice(0, n)
      })
    for (const m of [2, 3, 4, 7, 8, 9, 20]) expect(isSame(products(m), products(1))).toBe(true)
  })

  it('work on arrays that were made before their memory grew, and refuse others', () => {
    const early = kernels.allocate(4)
    early.set([1, 2, 3, 4])
    kernels.release(kernels.allocate(2 ** 23))
    kernels.gate('silu', early, early, early)
    expect(early[3]).toBeCloseTo(16 / (1 + Math.exp(-4)), 5)
    kernels.release(early)
    const outside = new Float32Array(4)
    expect(() => kernels.gate('silu', outside, outside, outside)).toThrow(ShapeError)
    expect(() => kernels.release(outside)).toThrow(ShapeError)
  })
})
