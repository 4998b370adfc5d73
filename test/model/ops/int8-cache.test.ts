import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { UnsupportedError } from '../../../src/common/errors.js'
import { allocateRows, releaseRows, storeRuns } from '../../../src/model/ops/kernels/held-rows.js'
import { kernelOps } from '../../../src/model/ops/kernels/kernel-ops.js'
import type { AttentionShape, CachePrecision } from '../../../src/model/ops/ops.js'
import { tensorOps } from '../../../src/model/ops/tensors/tensor-ops.js'
import { watchKernelArrays } from '../../support/kernel-arrays.js'
import { normals } from '../../support/random-matrix.js'
import { rejectionOf } from '../../support/tolerance.js'

const largestOf = (values: Float32Array) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0)

/** What is read back of values that were rounded, in runs of `size`. */
function rounded(values: Float32Array, size: number): Float32Array {
  const rows = allocateRows(values.length / size, size, 'int8')
  storeRuns(values, size, rows, 0)
  if (!('codes' in rows)) throw new Error('no codes')
  const { codes, scales } = rows
  const read = Float32Array.from(codes, (code, i) => code * scales[Math.floor(i / size)])
  releaseRows(rows)
  return read
}

const runs = fc.record({
  count: fc.integer({ min: 1, max: 5 }),
  size: fc.integer({ min: 1, max: 40 }),
  exponent: fc.integer({ min: -120, max: 120 }),
  seed: fc.nat(1e6),
})

describe('values in int8', () => {
  it('are off by half a step at most: 1 / 254 of the largest of their run', () => {
    fc.assert(
      fc.property(runs, ({ count, size, exponent, seed }) => {
        const values = normals(count * size, seed, 2 ** exponent)
        const read = rounded(values, size)
        for (let first = 0; first < values.length; first += size) {
          const bound = (largestOf(values.subarray(first, first + size)) / 254) * (1 + 2 ** -16)
          for (let i = first; i < first + size; i++) {
            expect(Math.abs(read[i] - values[i])).toBeLessThanOrEqual(bound)
          }
        }
      }),
    )
  })

  it('stay as they are where they are whole steps, and zeros stay zeros', () => {
    const values = Float32Array.from([127, -127, 3, 0, 0, 0, 0, 0])
    expect(rounded(values, 4)).toEqual(values)
  })

  it('next to the smallest number there is are off by no more than that number', () => {
    const smallest = 2 ** -149
    const values = Float32Array.from([smallest, -5 * smallest, 190 * smallest, -63 * smallest])
    for (const [i, read] of rounded(values, 1).entries()) {
      expect(Math.abs(read - values[i])).toBeLessThanOrEqual(64 * smallest)
    }
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'are all NaN in a run with %s, and only there',
    (bad) => {
      const read = rounded(Float32Array.from([1, 2, bad, 3, 4, 5]), 2)
      expect([...read].map(Number.isNaN)).toEqual([false, false, true, true, false, false])
    },
  )
})

interface CacheCase {
  readonly shape: AttentionShape
  readonly sequences: number
  readonly lengths: readonly number[]
  readonly seed: number
}

const cases: fc.Arbitrary<CacheCase> = fc
  .record({
    sequences: fc.integer({ min: 1, max: 2 }),
    lengths: fc.array(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 80 })), {
      minLength: 1,
      maxLength: 4,
    }),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    headDim: fc.integer({ min: 1, max: 40 }),
    scale: fc.constantFrom(0.05, 0.2),
    softCap: fc.option(fc.constantFrom(2, 30), { nil: undefined }),
    window: fc.option(fc.integer({ min: 1, max: 90 }), { nil: undefined }),
    seed: fc.nat(1e6),
  })
  .map(({ sequences, lengths, seed, group, ...shape }) => ({
    ...{ sequences, lengths, seed },
    shape: { ...shape, heads: group * shape.kvHeads },
  }))

/** The largest difference; NaN where one is. */
function gapBetween(actual: readonly Float32Array[], expected: readonly Float32Array[]): number {
  const gaps = actual.map((values, i) => values.map((value, j) => Math.abs(value - expected[i][j])))
  return gaps.reduce((most, own) => own.reduce((a, b) => Math.max(a, b), most), 0)
}

const totalOf = (lengths: readonly number[]) => lengths.reduce((a, b) => a + b, 0)

/** Rows of a part of the tokens of all sequences, as if the whole had been asked for. */
function partOf(values: Float32Array, sequences: number, first: number, length: number): Float32Array {
  const perSequence = values.length / sequences
  const part = (from: number, count: number) => values.subarray(from, from + count)
  const rows = Array.from({ length: sequences }, (_, s) => part(s * perSequence + first, length))
  return Float32Array.from(rows.flatMap((row) => Array.from(row)))
}

interface Operands {
  readonly queries: Float32Array
  readonly keys: Float32Array
  readonly values: Float32Array
}

function operandsOf({ shape, sequences, lengths, seed }: CacheCase): Operands {
  const rows = sequences * totalOf(lengths)
  const [cols, kvCols] = [shape.heads * shape.headDim, shape.kvHeads * shape.headDim]
  return {
    queries: normals(rows * cols, seed),
    keys: normals(rows * kvCols, seed + 1),
    values: normals(rows * kvCols, seed + 2),
  }
}

/** Output of the tokens from `lengths` at a time; `moves` copies the cache to a larger one before each. */
function attended(
  given: CacheCase,
  operands: Operands,
  precision: CachePrecision,
  moves = false,
): Float32Array[] {
  const { shape, sequences, lengths } = given
  const [cols, kvCols] = [shape.heads * shape.headDim, shape.kvHeads * shape.headDim]
  let cache = kernelOps.openCache(sequences, moves ? lengths[0] : totalOf(lengths), shape, precision)
  const outputs = lengths.map((length) => {
    const { positions } = cache
    if (moves) {
      const moved = kernelOps.copyCache(cache, positions, positions + length + 3)
      kernelOps.closeCache(cache)
      cache = moved
    }
    return kernelOps.tidy(() => {
      const upload = (values: Float32Array, width: number) =>
        kernelOps.upload(
          partOf(values, sequences, positions * width, length * width),
          sequences * length,
          width,
        )
      const tokens = { sequences, length, position: positions }
      const [q, k, v] = [
        upload(operands.queries, cols),
        upload(operands.keys, kvCols),
        upload(operands.values, kvCols),
      ]
      return kernelOps
        .read(kernelOps.attend(q, k, v, tokens, shape, cache))
        .slice(0, sequences * length * cols)
    })
  })
  kernelOps.closeCache(cache)
  return outputs
}

describe('attention over a cache in int8', () => {
  it('is off by no more than the rounding of scores and values can make', () => {
    fc.assert(
      fc.property(cases, (given) => {
        const { shape } = given
        const operands = operandsOf(given)
        const [exact, coarse] = (['float32', 'int8'] as const).map((precision) =>
          attended(given, operands, precision),
        )
        // a score is off by `e`, so weights by a factor between exp(-2 e) and exp(2 e): their sum of changes is below
        // exp(2 e) - 1, and each value is off by 1 / 254 of the largest
        const largestSum = largestOf(
          Float32Array.from({ length: operands.queries.length / shape.headDim }, (_, head) =>
            operands.queries
              .subarray(head * shape.headDim, (head + 1) * shape.headDim)
              .reduce((sum, x) => sum + Math.abs(x), 0),
          ),
        )
        const e = (shape.scale * largestSum * largestOf(operands.keys)) / 254
        const bound = largestOf(operands.values) * (Math.exp(2 * e) - 1 + 1 / 254) + 1e-5
        expect(gapBetween(coarse, exact)).toBeLessThanOrEqual(bound)
      }),
    )
  })

  it('is attention in float32 over what is read back of the rounded keys and values', () => {
    fc.assert(
      fc.property(cases, (given) => {
        const operands = operandsOf(given)
        const { headDim } = given.shape
        const read = {
          queries: operands.queries,
          keys: rounded(operands.keys, headDim),
          values: rounded(operands.values, headDim),
        }
        const [coarse, expected] = [attended(given, operands, 'int8'), attended(given, read, 'float32')]
        expect(gapBetween(coarse, expected)).toBeLessThan(1e-5)
      }),
    )
  })

  it('is the same, bit for bit, in a cache that is copied to a larger one before each pass', () => {
    fc.assert(
      fc.property(cases, (given) => {
        const operands = operandsOf(given)
        expect(attended(given, operands, 'int8', true)).toEqual(attended(given, operands, 'int8'))
      }),
    )
  })

  it('gives all of its memory back', () => {
    const arrays = watchKernelArrays()
    const shape = { heads: 2, kvHeads: 1, headDim: 5, scale: 1, softCap: undefined, window: undefined }
    const cache = kernelOps.openCache(1, 7, shape, 'int8')
    const copy = kernelOps.copyCache(cache, 0, 9)
    expect(arrays.inUse()).toBeGreaterThan(0)
    kernelOps.closeCache(cache)
    kernelOps.closeCache(copy)
    expect(arrays.inUse()).toBe(0)
    arrays.stop()
  })

  it('is refused where an engine has no such cache', async () => {
    const shape = { heads: 1, kvHeads: 1, headDim: 2, scale: 1, softCap: undefined, window: undefined }
    const error = await rejectionOf(() => tensorOps().openCache(1, 3, shape, 'int8'))
    expect(error).toBeInstanceOf(UnsupportedError)
    expect(error).toMatchObject({ message: expect.stringMatching(/int8.*wasm/) })
  })
})
