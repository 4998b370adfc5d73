import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ShapeError } from '../../src/errors.js'
import { wholeBlock } from '../../src/kernels/contract.js'
import type { ForwardKernels } from '../../src/kernels/forward-contract.js'
import { referenceForwardKernels } from '../../src/kernels/reference/forward.js'
import { createPool } from '../../src/kernels/wasm/pool.js'
import { productKernels } from '../../src/kernels/wasm/product.js'
import { startRuntime } from '../../src/kernels/wasm/runtime.js'
import {
  builds,
  isSame,
  largestGap,
  normals,
  onThreads,
  startForwardKernels,
  withArrays,
} from './forward-arrays.js'

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
      return [sums, tops, compare(kernels, 20, 2000, 1)]
    })
    for (const result of results) expect(result).toEqual(results[0])
  })

  it('multiply in place to the bits of the product of ordinary arrays', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 600 }),
        fc.constantFrom<0 | 1>(0, 1),
        seeds,
        (m, n, k, beta, seed) => {
          const [a, b, c] = [normals(m * k, seed), normals(k * n, seed + 1), normals(m * (n + 2), seed + 2)]
          const right = wholeBlock(b, n)
          const product = (of: Pick<ForwardKernels, 'gemm'>, left: Float32Array, sums: Float32Array) => {
            const target = { data: sums, offset: 1, stride: n + 2 }
            of.gemm('AB', m, n, k, 1, wholeBlock(left, k), right, beta, target)
            return sums.slice()
          }
          const inPlace = withArrays(kernels, [a, c], (x, y) => product(kernels, x, y))
          const copied = [c.slice(), c.slice()]
          product(kernels, a, copied[0])
          product(quantizing, a, copied[1])
          for (const copy of copied) expect(isSame(inPlace, copy)).toBe(true)
        },
      ),
      { numRuns: 40 },
    )
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
