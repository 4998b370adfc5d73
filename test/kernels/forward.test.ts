import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { ShapeError } from '../../src/errors.js'
import { wholeBlock } from '../../src/kernels/contract.js'
import type { AttentionTask, ForwardKernels } from '../../src/kernels/forward-contract.js'
import { referenceForwardKernels } from '../../src/kernels/reference/forward.js'
import { wasmForwardKernels } from '../../src/kernels/wasm/forward.js'
import { baseline, relaxed } from '../../src/kernels/wasm/forward-binaries.js'
import { createPool, stopWorkers } from '../../src/kernels/wasm/pool.js'
import { productKernels } from '../../src/kernels/wasm/product.js'
import { bestBuild, type KernelBuild, startRuntime } from '../../src/kernels/wasm/runtime.js'
import { randomGenerator, randomNormal } from '../../src/random.js'

const builds: readonly KernelBuild[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']

/** Allocates arrays, filled with `contents`, in the memory of `kernels`, and gives them back after `use`. */
function withArrays<T>(
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

function normals(size: number, seed: number, scale = 1): Float32Array {
  const random = randomGenerator(seed)
  return Float32Array.from({ length: size }, () => scale * randomNormal(random))
}

const unwritten = (size: number) => new Float32Array(size).fill(Number.NaN)

/** The largest difference, in units of `1 + |expected|`; Infinity where one is NaN and the other is not. */
function largestGap(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length)
  let gap = 0
  for (let i = 0; i < expected.length; i++) {
    if (Object.is(actual[i], expected[i])) continue
    const distance = Math.abs(actual[i] - expected[i]) / (1 + Math.abs(expected[i]))
    gap = Math.max(gap, Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance)
  }
  return gap
}

const seeds = fc.nat(1e6)

const rowShapes = fc.record({
  rows: fc.integer({ min: 1, max: 40 }),
  cols: fc.integer({ min: 1, max: 70 }),
  seed: seeds,
})

function normalize(kernels: ForwardKernels, rows: number, cols: number, seed: number): Float32Array {
  const scale = normals(cols, seed + 1)
  return withArrays(kernels, [normals(rows * cols, seed, 3), unwritten(rows * cols)], (x, y) => {
    kernels.normalizeRows(rows, cols, x, scale, 1e-5, y)
    return y.slice()
  })
}

function gate(kernels: ForwardKernels, length: number, seed: number): Float32Array {
  const inputs = [normals(length, seed, 20), normals(length, seed + 1), unwritten(length)]
  return withArrays(kernels, inputs, (left, right, y) => {
    kernels.gate(left, right, y)
    return y.slice()
  })
}

interface AttentionShape
  extends Omit<AttentionTask, 'cos' | 'sin' | 'queries' | 'keys' | 'values' | 'output'> {
  readonly seed: number
}

const attentionShapes: fc.Arbitrary<AttentionShape> = fc
  .record({
    sequences: fc.integer({ min: 1, max: 3 }),
    length: fc.integer({ min: 1, max: 45 }),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    half: fc.integer({ min: 1, max: 9 }),
    window: fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }),
    seed: seeds,
  })
  .map(({ group, half, ...shape }) => ({ ...shape, heads: group * shape.kvHeads, headDim: 2 * half }))

function attend(kernels: ForwardKernels, { seed, ...shape }: AttentionShape): Float32Array {
  const { sequences, length, heads, kvHeads, headDim } = shape
  const tokens = sequences * length
  // one position more than there are tokens: tables may be longer
  const angles = normals(((length + 1) * headDim) / 2, seed)
  const table = (of: (angle: number) => number) =>
    Float32Array.from({ length: (length + 1) * headDim }, (_, i) => {
      const [position, dim] = [Math.floor(i / headDim), i % (headDim / 2)]
      return of(angles[(position * headDim) / 2 + dim])
    })
  const inputs = [heads, kvHeads, kvHeads].map((count, i) => normals(tokens * count * headDim, seed + i, 2))
  return withArrays(
    kernels,
    [...inputs, unwritten(tokens * heads * headDim)],
    (queries, keys, values, output) => {
      kernels.attend({ ...shape, cos: table(Math.cos), sin: table(Math.sin), queries, keys, values, output })
      return output.slice()
    },
  )
}

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
  const pool = createPool(startRuntime(build, { baseline, relaxed }), 1)
  const kernels = wasmForwardKernels(pool)
  const quantizing = productKernels(createPool(startRuntime(build), 1))
  afterAll(() => stopWorkers(pool))

  it('normalize rows as the reference', () => {
    fc.assert(
      fc.property(rowShapes, ({ rows, cols, seed }) => {
        const expected = normalize(referenceForwardKernels, rows, cols, seed)
        expect(largestGap(normalize(kernels, rows, cols, seed), expected)).toBeLessThan(2 ** -22)
      }),
    )
  })

  it('attend as the reference, for any heads, dimensions, lengths and windows', () => {
    fc.assert(
      fc.property(attentionShapes, (shape) => {
        expect(largestGap(attend(kernels, shape), attend(referenceForwardKernels, shape))).toBeLessThan(1e-5)
      }),
      { numRuns: 200 },
    )
  })

  it.each([undefined, 100, 300])(
    'attend as the reference over several runs of queries, window %s',
    (window) => {
      const shape = { sequences: 1, length: 530, heads: 2, kvHeads: 1, headDim: 6, window, seed: 5 }
      expect(largestGap(attend(kernels, shape), attend(referenceForwardKernels, shape))).toBeLessThan(1e-5)
    },
  )

  it('attend to one key alone where its score is far above all others', () => {
    const shape = { sequences: 1, length: 8, heads: 1, kvHeads: 1, headDim: 2, window: undefined }
    const [cos, sin] = [new Float32Array(16).fill(1), new Float32Array(16)]
    const vectors = Float32Array.from({ length: 16 }, (_, i) => (i < 2 ? 1e4 : 0))
    const values = normals(16, 3)
    const output = withArrays(
      kernels,
      [new Float32Array(16).fill(1), vectors, values, unwritten(16)],
      (queries, keys, mixed, y) => {
        kernels.attend({ ...shape, cos, sin, queries, keys, values: mixed, output: y })
        return y.slice()
      },
    )
    output.forEach((value, i) => {
      expect(value).toBe(values[i % 2])
    })
  })

  it('gate as the reference, for small and large values', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), seeds, (length, seed) => {
        expect(
          largestGap(gate(kernels, length, seed), gate(referenceForwardKernels, length, seed)),
        ).toBeLessThan(2 ** -20)
      }),
    )
    const extremes = [-1e30, -300, -88, -87, -1e-30, 0, 1e-30, 87, 88, 300, 1e30]
    const ones = new Float32Array(extremes.length).fill(1)
    const of = (which: ForwardKernels) =>
      withArrays(which, [extremes, ones], (left, right) => {
        which.gate(left, right, right)
        return right.slice()
      })
    expect(largestGap(of(kernels), of(referenceForwardKernels))).toBeLessThan(2 ** -20)
  })

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

  it('let NaN and infinity through to what depends on them', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const gated = withArrays(kernels, [[1, bad], Float32Array.of(1, 1)], (left, right) => {
        kernels.gate(left, right, left)
        return left.slice()
      })
      expect([...gated].map(Number.isFinite)).toEqual([true, false])
      const rows = withArrays(kernels, [[1, 2, bad, 2]], (x) => {
        kernels.normalizeRows(2, 2, x, Float32Array.of(1, 1), 1e-5, x)
        return x.slice()
      })
      expect([...rows.subarray(0, 2)].every(Number.isFinite)).toBe(true)
      expect([...rows.subarray(2)].every(Number.isFinite)).toBe(false)
      const [cos, sin] = [new Float32Array(20).fill(1), new Float32Array(20)]
      const shape = {
        sequences: 1,
        length: 10,
        heads: 1,
        kvHeads: 1,
        headDim: 2,
        window: undefined,
        cos,
        sin,
      }
      const keys = new Float32Array(40).fill(1)
      keys[2 * 10 + 1] = bad
      const output = withArrays(
        kernels,
        [new Float32Array(40).fill(1), keys, keys, unwritten(40)],
        (queries, seen, values, y) => {
          kernels.attend({ ...shape, queries, keys: seen, values, output: y })
          return y.slice()
        },
      )
      expect([...output.subarray(0, 2 * 8)].every(Number.isFinite)).toBe(true)
      expect([...output.filter((_, i) => i >= 2 * 10 && i % 2 === 1)].some(Number.isFinite)).toBe(false)
    }
  })

  it('give the same bits on 1, 2 and 3 threads', () => {
    const shape = { sequences: 2, length: 300, heads: 4, kvHeads: 2, headDim: 8, window: 290, seed: 1 }
    const results = [1, 2, 3].map((threads) => {
      pool.threads = threads
      const { sums, tops } = predict(kernels, 30, 3000, logitsOf(30, 3000, 1))
      const floats = [attend(kernels, shape), normalize(kernels, 300, 200, 1), gate(kernels, 50_000, 1)]
      return [...floats, sums, tops, compare(kernels, 20, 2000, 1)]
    })
    pool.threads = 1
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
          for (const copy of copied) expect(Buffer.compare(bytesOf(inPlace), bytesOf(copy))).toBe(0)
        },
      ),
      { numRuns: 40 },
    )
  })

  it('work on arrays that were made before their memory grew, and refuse others', () => {
    const early = kernels.allocate(4)
    early.set([1, 2, 3, 4])
    kernels.release(kernels.allocate(2 ** 23))
    kernels.gate(early, early, early)
    expect(early[3]).toBeCloseTo(16 / (1 + Math.exp(-4)), 5)
    kernels.release(early)
    const outside = new Float32Array(4)
    expect(() => kernels.gate(outside, outside, outside)).toThrow(ShapeError)
    expect(() => kernels.release(outside)).toThrow(ShapeError)
  })
})

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  Buffer.from(buffer, byteOffset, byteLength)
