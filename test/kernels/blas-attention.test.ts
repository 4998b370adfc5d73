import fc from 'fast-check'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'
import { setThreads, threadCount } from '../../src/kernels/kernels.js'
import { startProducts } from '../../src/kernels/native/start-products.js'
import { referenceForwardKernels } from '../../src/kernels/reference/forward.js'
import { availableBlas } from '../support/blas.js'
import { attend, attentionShapes, plain } from './attention-cases.js'
import { isSame, largestGap } from './forward-arrays.js'

const blas = await availableBlas()
const threads = threadCount()

/** Long enough for products of a library, and now and then too short. */
const shapes = attentionShapes({
  sequences: fc.integer({ min: 1, max: 2 }),
  length: fc.integer({ min: 250, max: 290 }),
  group: fc.integer({ min: 1, max: 3 }),
  window: fc.integer({ min: 1, max: 400 }),
  isInt8: fc.constant(false),
})

describe.skipIf(!blas)('attention by the products of the system', async () => {
  await startProducts('blas')
  const kernels = forwardKernels()
  await startProducts('wasm')
  afterEach(() => setThreads(threads))
  afterAll(() => startProducts('wasm'))

  it('is as the reference for any heads, dimensions, positions, caps and windows', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const bound = 1e-5 + 2 ** -20 * Math.abs(shape.scale) * shape.headDim
        expect(largestGap(attend(kernels, shape), attend(referenceForwardKernels, shape))).toBeLessThan(bound)
      }),
      { numRuns: 40 },
    )
  })

  it.each([undefined, 100, 300])('is as the reference over several tiles of queries, window %s', (window) => {
    const shape = { ...plain, length: 530, capacity: 600, heads: 2, headDim: 6, window }
    expect(largestGap(attend(kernels, shape), attend(referenceForwardKernels, shape))).toBeLessThan(1e-5)
    const chunk = { ...shape, length: 270, position: 300 }
    expect(largestGap(attend(kernels, chunk), attend(referenceForwardKernels, chunk))).toBeLessThan(1e-5)
  })

  it('is as the reference where scores of some heads alone fit at a time', () => {
    const sizes = { length: 300, position: 2700, capacity: 3000, heads: 24, kvHeads: 12 }
    const shape = { ...plain, ...sizes }
    expect(largestGap(attend(kernels, shape), attend(referenceForwardKernels, shape))).toBeLessThan(1e-5)
  })

  it('reads codes of 8 bits, and few queries, as without the library', () => {
    const shape = { ...plain, length: 280, capacity: 280, isInt8: true }
    expect(largestGap(attend(kernels, shape), attend(referenceForwardKernels, shape))).toBeLessThan(1e-5)
    const few = { ...plain, length: 3, position: 50, capacity: 60 }
    expect(largestGap(attend(kernels, few), attend(referenceForwardKernels, few))).toBeLessThan(1e-5)
  })

  it('gives the same bytes on any number of threads', () => {
    const sizes = { sequences: 2, heads: 4, kvHeads: 2, headDim: 64, softCap: 30, window: 290, seed: 1 }
    const shape = { ...plain, ...sizes, length: 600, capacity: 610 }
    const [alone, two, three] = [1, 2, 3].map((count) => {
      setThreads(count)
      // which tells the threads of what is not a product
      forwardKernels()
      return attend(kernels, shape)
    })
    expect(isSame(alone, two) && isSame(alone, three)).toBe(true)
  })
})
