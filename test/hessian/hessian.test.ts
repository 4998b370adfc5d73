import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NumericError, ShapeError } from '../../src/common/errors.js'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import { randomGenerator } from '../../src/common/random.js'
import { HessianAccumulator } from '../../src/hessian/hessian.js'
import { countAllocatedBy } from '../support/count-allocated.js'
import { randomActivations } from '../support/random-matrix.js'
import { FLOAT32_ROUNDING, thrownBy } from '../support/tolerance.js'

/** `(2 / tokens) X^T X` in float64, and the same sum of absolute values, which bounds what rounding can do. */
function oracle(x: Matrix): { hessian: Float64Array; size: Float64Array } {
  const n = x.cols
  const hessian = new Float64Array(n * n)
  const size = new Float64Array(n * n)
  for (let t = 0; t < x.rows; t++) {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        const term = (2 / x.rows) * x.data[t * n + i] * x.data[t * n + j]
        hessian[i * n + j] += term
        size[i * n + j] += Math.abs(term)
      }
    }
  }
  return { hessian, size }
}

/** The largest error in units of the float32 rounding of the sum of absolute values. */
function roundings(actual: Float32Array, expected: { hessian: Float64Array; size: Float64Array }): number {
  const errors = Array.from(actual, (value, i) => Math.abs(value - expected.hessian[i]) / expected.size[i])
  return Math.max(...errors) / FLOAT32_ROUNDING
}

/**
 * The most roundings in the Hessian of batches of `tokens` tokens: up to 256 products are rounded and summed in float32,
 * then up to 8 such sums (both count against the sum of absolute values), what comes of these is summed with its
 * rounding errors, and the result is rounded. A little for the errors of errors.
 */
function mostRoundings(tokens: number): number {
  const panel = Math.min(tokens, 2048)
  const sums = Math.ceil(panel / 256)
  return Math.min(panel, 256) + sums - 1 + 1 + 0.5
}

/** The same for products computed elsewhere and rounded once, as for single tokens. */
const ROUNDINGS = mostRoundings(1)

function slices(x: Matrix, sizes: readonly number[]): Matrix[] {
  const parts: Matrix[] = []
  let first = 0
  for (const size of sizes) {
    if (first >= x.rows) break
    const last = Math.min(first + size, x.rows)
    parts.push(matrix(last - first, x.cols, x.data.slice(first * x.cols, last * x.cols)))
    first = last
  }
  if (first < x.rows) parts.push(matrix(x.rows - first, x.cols, x.data.slice(first * x.cols)))
  return parts
}

function accumulate(batches: readonly Matrix[]): HessianAccumulator {
  const accumulator = new HessianAccumulator(batches[0].cols)
  for (const batch of batches) accumulator.add(batch)
  return accumulator
}

function upperGramOf(x: Matrix): Matrix {
  const { hessian } = oracle(x)
  const n = x.cols
  const gram = matrix(
    n,
    n,
    Float32Array.from(hessian, (value) => (value * x.rows) / 2),
  )
  for (let i = 0; i < n; i++) gram.data.fill(-1e9, i * n, i * n + i)
  return gram
}

describe('HessianAccumulator', () => {
  it.each([
    [1, 1],
    [1, 300],
    [5, 2],
    [64, 256],
    [65, 257],
    [130, 600],
    [20, 5000],
  ])('equals (2 / tokens) X^T X in float64 for %d features and %d tokens', (features, tokens) => {
    const x = randomActivations(features, tokens, features + tokens)
    const accumulator = accumulate([x])
    expect(roundings(accumulator.hessian().data, oracle(x))).toBeLessThan(mostRoundings(tokens))
    expect(accumulator.tokens).toBe(tokens)
    expect(accumulator.inFeatures).toBe(features)
  })

  it('is exactly symmetric', () => {
    const { data } = accumulate(slices(randomActivations(70, 500, 1), [100, 3])).hessian()
    for (let i = 0; i < 70; i++) {
      for (let j = 0; j < i; j++) expect(data[i * 70 + j]).toBe(data[j * 70 + i])
    }
  })

  it('gives the same Hessian however the tokens are split into batches', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 700 }),
        fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 8 }),
        fc.nat(1e6),
        (features, tokens, sizes, seed) => {
          const x = randomActivations(features, tokens, seed)
          const batches = slices(x, sizes)
          const split = accumulate(batches)
          const longest = Math.max(...batches.map(({ rows }) => rows))
          expect(split.tokens).toBe(tokens)
          expect(roundings(split.hessian().data, oracle(x))).toBeLessThan(mostRoundings(longest))
        },
      ),
    )
  })

  it('keeps 20000 small batches to float32 rounding where a plain float32 sum loses digits', () => {
    const features = 4
    const batches = 20_000
    const random = randomGenerator(2)
    const x = matrix(
      batches,
      features,
      Float32Array.from({ length: batches * features }, () => 2 + random()),
    )
    const expected = oracle(x)
    const plain = new Float32Array(features * features)
    const accumulator = new HessianAccumulator(features)
    for (let t = 0; t < batches; t++) {
      const token = x.data.slice(t * features, (t + 1) * features)
      accumulator.add(matrix(1, features, token))
      for (let i = 0; i < features; i++) {
        for (let j = 0; j < features; j++) plain[i * features + j] += token[i] * token[j]
      }
    }
    expect(roundings(accumulator.hessian().data, expected)).toBeLessThan(ROUNDINGS)
    const plainHessian = plain.map((sum) => (sum * 2) / batches)
    expect(roundings(plainHessian, expected)).toBeGreaterThan(20 * ROUNDINGS)
  })

  it('keeps 20000 small products beside a large one where a plain float32 sum ignores them', () => {
    const small = Math.fround(0.03)
    const accumulator = new HessianAccumulator(2)
    accumulator.addGram(matrix(2, 2, Float32Array.of(1e6, 1e6, 1e6, 1e6)), 1)
    let plain = Math.fround(1e6)
    for (let batch = 0; batch < 20_000; batch++) {
      accumulator.addGram(matrix(2, 2, new Float32Array(4).fill(small)), 1)
      plain = Math.fround(plain + small)
    }
    const expected = (2 / 20_001) * (1e6 + 20_000 * small)
    for (const value of accumulator.hessian().data) {
      expect(Math.abs(value / expected - 1)).toBeLessThan(ROUNDINGS * FLOAT32_ROUNDING)
    }
    // every one of the 600 was lost
    expect(plain).toBe(1e6)
    expect(Math.abs(((2 / 20_001) * plain) / expected - 1)).toBeGreaterThan(5e-4)
  })

  it('keeps a small rest that is left when large products cancel', () => {
    const accumulator = new HessianAccumulator(2)
    const product = (offDiagonal: number) => matrix(2, 2, Float32Array.of(2e6, offDiagonal, 0, 2e6))
    accumulator.addGram(product(1e6), 1)
    for (let batch = 0; batch < 1000; batch++) accumulator.addGram(product(0.01), 1)
    accumulator.addGram(product(-1e6), 1)
    const rest = accumulator.hessian().data[1] / ((2 / 1002) * 1000 * Math.fround(0.01))
    expect(Math.abs(rest - 1)).toBeLessThan(1e-5)
  })

  it('takes X^T X computed elsewhere as it takes activations, and reads its upper triangle only', () => {
    const batches = slices(randomActivations(20, 400, 4), [150, 150, 100])
    const fromProducts = new HessianAccumulator(20)
    for (const batch of batches) fromProducts.addGram(upperGramOf(batch), batch.rows)
    const expected = oracle(randomActivations(20, 400, 4))
    expect(roundings(fromProducts.hessian().data, expected)).toBeLessThan(ROUNDINGS)
    expect(fromProducts.tokens).toBe(400)
  })

  it('can be read between batches, and gives a new matrix each time', () => {
    const x = randomActivations(6, 100, 5)
    const [first, second] = slices(x, [40, 60])
    const accumulator = accumulate([first])
    const early = accumulator.hessian()
    expect(roundings(early.data, oracle(first))).toBeLessThan(mostRoundings(40))
    early.data.fill(Number.NaN)
    accumulator.add(second)
    expect(roundings(accumulator.hessian().data, oracle(x))).toBeLessThan(mostRoundings(60))
  })

  it('stores one float32 matrix and a vector, nothing in float64', async () => {
    const allocated = await countAllocatedBy(async () => new HessianAccumulator(100))
    expect(allocated).toEqual({ float32: 100 * 100 + 100, float64: 0 })
  })

  it('has no Hessian before the first batch', () => {
    expect(thrownBy(() => new HessianAccumulator(3).hessian())).toBeInstanceOf(NumericError)
  })

  it.each([0, -1, 2.5, Number.NaN])('refuses %d input features', (features) => {
    expect(thrownBy(() => new HessianAccumulator(features))).toBeInstanceOf(ShapeError)
  })

  it('says so when the sum outgrows float32', () => {
    const accumulator = new HessianAccumulator(1)
    for (let i = 0; i < 4; i++) accumulator.addGram(matrix(1, 1, Float32Array.of(3e38)), 1)
    const error = thrownBy(() => accumulator.hessian())
    expect(error).toBeInstanceOf(NumericError)
    expect((error as Error).message).toMatch(/outgrew float32.*at row 0, column 0/)
  })

  it('leaves the sum as it was when a batch is refused', () => {
    const good = randomActivations(3, 300, 6)
    const accumulator = accumulate([good])
    const before = accumulator.hessian()
    const damaged = randomActivations(3, 300, 7)
    damaged.data[299 * 3 + 1] = Number.NaN
    const refused: [() => void, new (message: string) => Error, RegExp][] = [
      [() => accumulator.add(damaged), NumericError, /activations: found NaN at row 299, column 1/],
      [
        () => accumulator.add(matrix(1, 3, Float32Array.of(1, -2e18, 1))),
        NumericError,
        /found -1999999\d* at row 0, column 1.*squares outgrow float32/,
      ],
      [() => accumulator.add(matrix(1, 4)), ShapeError, /4 columns.* 3 input features/],
      [() => accumulator.addGram(matrix(2, 3), 1), ShapeError, /2 x 3, expected 3 x 3/],
      [() => accumulator.addGram(matrix(3, 3), 0), ShapeError, /tokens.* 0/],
      [() => accumulator.addGram(matrix(3, 3), 1.5), ShapeError, /tokens.* 1\.5/],
      [
        () => accumulator.addGram(matrix(3, 3, new Float32Array(9).fill(Number.POSITIVE_INFINITY)), 1),
        NumericError,
        /Infinity at row 0, column 0/,
      ],
    ]
    for (const [action, kind, message] of refused) {
      const error = thrownBy(action)
      expect(error).toBeInstanceOf(kind)
      expect((error as Error).message).toMatch(message)
      expect(accumulator.hessian().data).toEqual(before.data)
      expect(accumulator.tokens).toBe(300)
    }
  })
})
