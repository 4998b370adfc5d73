import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ForwardKernels, RotateTask, SharesTask } from '../../src/kernels/forward-contract.js'
import { referenceForwardKernels } from '../../src/kernels/reference/forward.js'
import { normals } from '../support/random-matrix.js'
import { attend, attentionShapes, plain } from './attention-cases.js'
import {
  builds,
  isSame,
  largestGap,
  onThreads,
  startForwardKernels,
  unwritten,
  withArrays,
  withinLarger,
} from './forward-arrays.js'

const seeds = fc.nat(1e6)

/** Prompts, chunks of prompts, and tokens one by one. */
const lengths = fc.oneof(fc.constant(1), fc.integer({ min: 2, max: 12 }), fc.integer({ min: 1, max: 45 }))

const shapes = attentionShapes({
  sequences: fc.integer({ min: 1, max: 3 }),
  length: lengths,
  group: fc.integer({ min: 1, max: 5 }),
  window: fc.integer({ min: 1, max: 80 }),
  isInt8: fc.boolean(),
})

const sharesTasks = fc
  .record({
    heads: fc.integer({ min: 1, max: 3 }),
    queries: fc.integer({ min: 1, max: 40 }),
    own: fc.integer({ min: 0, max: 50 }),
    behind: fc.integer({ min: 0, max: 9 }),
    window: fc.option(fc.integer({ min: 1, max: 60 }), { nil: undefined }),
    softCap: fc.option(fc.constantFrom(0.5, 2, 50), { nil: undefined }),
    seed: seeds,
  })
  .map(({ heads, behind, ...task }) => ({
    ...task,
    rows: heads * task.queries,
    stride: 4 * Math.ceil((task.own + task.queries + behind) / 4),
  }))

type SharesShape = Omit<SharesTask, 'scores'> & { readonly seed: number }

function shares(kernels: ForwardKernels, { seed, ...task }: SharesShape): Float32Array {
  const scores = normals(task.rows * task.stride, seed, 4)
  return withinLarger(kernels, scores, (part) => kernels.shareAttention({ ...task, scores: part }))
}

const rotateShapes = fc
  .record({
    sequences: fc.integer({ min: 1, max: 3 }),
    length: fc.integer({ min: 1, max: 20 }),
    position: fc.integer({ min: 0, max: 9 }),
    heads: fc.integer({ min: 1, max: 4 }),
    half: fc.integer({ min: 1, max: 11 }),
    rest: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 9 })),
    seed: seeds,
  })
  .map(({ half, rest, ...shape }) => ({ ...shape, dims: 2 * half, headDim: 2 * half + rest }))

type RotateShape = Omit<RotateTask, 'cos' | 'sin' | 'x' | 'y'> & { readonly seed: number }

function anglesOf({ length, position, dims, seed }: RotateShape, of: (angle: number) => number) {
  // one position more than there are tokens: tables may be longer
  const positions = position + length + 1
  const angles = normals((positions * dims) / 2, seed + 1)
  return Float32Array.from({ length: positions * dims }, (_, i) =>
    of(angles[(Math.floor(i / dims) * dims) / 2 + (i % (dims / 2))]),
  )
}

function rotate(kernels: ForwardKernels, shape: RotateShape, isInPlace: boolean): Float32Array {
  const x = normals(shape.sequences * shape.length * shape.heads * shape.headDim, shape.seed)
  const task = { ...shape, cos: anglesOf(shape, Math.cos), sin: anglesOf(shape, Math.sin) }
  if (isInPlace) return withinLarger(kernels, x, (y) => kernels.rotate({ ...task, x: y, y }))
  return withArrays(kernels, [x], (from) =>
    withinLarger(kernels, unwritten(x.length), (y) => kernels.rotate({ ...task, x: from, y })),
  )
}

describe('the reference', () => {
  it('turns a pair as multiplication by a complex number does, and back', () => {
    const shape = { sequences: 2, length: 3, position: 1, heads: 2, headDim: 7, dims: 4, seed: 3 }
    const x = normals(2 * 3 * 2 * 7, 1)
    const [cos, sin] = [anglesOf(shape, Math.cos), anglesOf(shape, Math.sin)]
    const turned = x.slice()
    referenceForwardKernels.rotate({ ...shape, cos, sin, x, y: turned })
    const lengthOf = (values: Float32Array, i: number) => Math.hypot(values[i], values[i + 2])
    expect(lengthOf(turned, 7)).toBeCloseTo(lengthOf(x, 7), 6)
    expect([...turned.subarray(4, 7)]).toEqual([...x.subarray(4, 7)])
    referenceForwardKernels.rotate({ ...shape, cos, sin: sin.map((s) => -s), x: turned, y: turned })
    expect(largestGap(turned, x)).toBeLessThan(1e-6)
  })
})

describe.each(builds)('attention, %s build', (build) => {
  const { pool, kernels } = startForwardKernels(build)

  it('rotates as the reference, all dimensions of a head or some', () => {
    fc.assert(
      fc.property(rotateShapes, fc.boolean(), (shape, isInPlace) => {
        const expected = rotate(referenceForwardKernels, shape, false)
        expect(largestGap(rotate(kernels, shape, isInPlace), expected)).toBeLessThan(2 ** -21)
      }),
    )
  })

  it('is as the reference for any heads, dimensions, positions, caps and windows', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        // a sum of products of normal numbers is off by a few roundings of their size, and a weight by as much of itself
        const bound = 1e-5 + 2 ** -20 * Math.abs(shape.scale) * shape.headDim
        expect(largestGap(attend(kernels, shape), attend(referenceForwardKernels, shape))).toBeLessThan(bound)
      }),
      { numRuns: 400 },
    )
  })

  it('shares are those of the reference, which add up to 1, and 0 for what is not seen', () => {
    fc.assert(
      fc.property(sharesTasks, (task) => {
        const found = shares(kernels, task)
        expect(largestGap(found, shares(referenceForwardKernels, task))).toBeLessThan(2e-6)
        for (let row = 0; row < task.rows; row++) {
          const own = found.subarray(row * task.stride, (row + 1) * task.stride)
          const behind = task.own + (row % task.queries) + 1
          const first = Math.max(0, behind - (task.window ?? behind))
          expect([...own.subarray(0, first), ...own.subarray(behind)].every((share) => share === 0)).toBe(
            true,
          )
          expect(own.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5)
        }
      }),
    )
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('shares of %s are not finite', (bad) => {
    for (const at of [0, 5, 8]) {
      const scores = Float32Array.from({ length: 12 }, (_, i) => (i === at ? bad : i))
      const task = { rows: 1, stride: 12, queries: 1, own: 8, window: undefined, softCap: undefined, scores }
      const found = withinLarger(kernels, scores, (part) => kernels.shareAttention({ ...task, scores: part }))
      expect(found.some((share) => !Number.isFinite(share))).toBe(true)
    }
  })

  it.each([undefined, 100, 300])('is as the reference over several runs of queries, window %s', (window) => {
    const shape = { ...plain, length: 530, capacity: 600, heads: 2, headDim: 6, window }
    expect(largestGap(attend(kernels, shape), attend(referenceForwardKernels, shape))).toBeLessThan(1e-5)
    const chunk = { ...shape, length: 270, position: 300 }
    expect(largestGap(attend(kernels, chunk), attend(referenceForwardKernels, chunk))).toBeLessThan(1e-5)
  })

  it.each([undefined, 700])('is as the reference for one token after many, window %s', (window) => {
    for (const [headDim, isInt8] of [
      [64, false],
      [80, false],
      [34, false],
      [64, true],
      [34, true],
    ] as const) {
      const shape = {
        ...plain,
        isInt8,
        sequences: 2,
        length: 1,
        position: 1500,
        capacity: 1600,
        kvHeads: 2,
        headDim,
      }
      const group = { ...shape, heads: 6, scale: headDim ** -0.5, window }
      expect(largestGap(attend(kernels, group), attend(referenceForwardKernels, group))).toBeLessThan(1e-5)
    }
  })

  it.each([1, 8])(
    'leaves the value of one key alone where its score is far above all others, %s queries',
    (length) => {
      const vectors = Float32Array.from({ length: 16 }, (_, i) => (i < 2 ? 1e4 : 0))
      const shape = { ...plain, length, position: 8 - length }
      const values = normals(16, 3)
      const inputs = [new Float32Array(2 * length).fill(1), vectors, values, unwritten(2 * length)]
      const output = withArrays(kernels, inputs, (queries, keys, mixed, y) => {
        kernels.attend({ ...shape, queries, keys, values: mixed, output: y })
        return y.slice()
      })
      output.forEach((value, i) => {
        expect(value).toBe(values[i % 2])
      })
    },
  )

  it.each([1, 10])('lets NaN and infinity through to what depends on them, %s queries', (length) => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const softCap of [undefined, 20]) {
        const shape = { ...plain, length, position: 20 - length, capacity: 20, softCap }
        const keys = new Float32Array(40).fill(1)
        const at = length === 1 ? 10 : 18
        keys[2 * at + 1] = bad
        const inputs = [new Float32Array(2 * length).fill(1), keys, keys, unwritten(2 * length)]
        const output = withArrays(kernels, inputs, (queries, seen, values, y) => {
          kernels.attend({ ...shape, queries, keys: seen, values, output: y })
          return y.slice()
        })
        const depends = (i: number) => shape.position + Math.floor(i / 2) >= at
        const mayDepend = (i: number) => shape.position + Math.floor(i / 2) >= at - 7
        expect(output.every((y, i) => mayDepend(i) || Number.isFinite(y))).toBe(true)
        expect(output.every((y, i) => !depends(i) || i % 2 === 0 || !Number.isFinite(y))).toBe(true)
      }
    }
  })

  it('gives the same bits on 1, 2 and 3 threads', () => {
    const sizes = { sequences: 2, heads: 4, kvHeads: 2, headDim: 8, softCap: 30, window: 290, seed: 1 }
    const shape = { ...plain, ...sizes, length: 300, capacity: 310 }
    const turning = { sequences: 2, length: 300, position: 3, heads: 8, headDim: 30, dims: 20, seed: 1 }
    const results = onThreads(pool, () => [
      attend(kernels, shape),
      attend(kernels, { ...shape, length: 1, position: 301 }),
      attend(kernels, { ...shape, isInt8: true }),
      attend(kernels, { ...shape, isInt8: true, length: 1, position: 301 }),
      rotate(kernels, turning, false),
      shares(kernels, { rows: 600, stride: 400, queries: 300, own: 90, window: 200, softCap: 30, seed: 4 }),
    ])
    for (const result of results) {
      result.forEach((array, i) => {
        expect(isSame(array, results[0][i])).toBe(true)
      })
    }
  })
})
