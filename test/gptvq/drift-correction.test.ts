import fc from 'fast-check'
import { Matrix as DenseMatrix, inverse } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import { NumericError, OptionError, ShapeError } from '../../src/common/errors.js'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import {
  correctDrift,
  type DriftCorrectionOptions,
  type DriftHalves,
  type LayerDrift,
} from '../../src/gptvq/drift-correction.js'
import { driftAccumulator } from '../../src/hessian/drift.js'
import { dense, largestElement } from '../support/float64-algebra.js'
import { gaussianMatrix, hessianOf, randomActivations } from '../support/random-matrix.js'
import { expectClose, rejectionOf } from '../support/tolerance.js'

/** Inputs of a layer and the residual stream in the full and in the quantized model, over the same tokens. */
interface Tokens {
  readonly full: Matrix
  readonly present: Matrix
  readonly fullResidual: Matrix
  readonly residual: Matrix
}

/** Tokens whose drift is noise, which the inputs say nothing of. */
function noisyTokens(rows: number, cols: number, tokens: number, seed: number, noise = 0.3): Tokens {
  const present = randomActivations(cols, tokens, seed)
  const residual = randomActivations(rows, tokens, seed + 2)
  return {
    full: plus(present, randomActivations(cols, tokens, seed + 1), noise),
    present,
    fullResidual: plus(residual, randomActivations(rows, tokens, seed + 3), noise),
    residual,
  }
}

/** Tokens whose drift follows from the inputs (`signal` of it), and for the rest is noise. */
function drifting(
  rows: number,
  cols: number,
  tokens: number,
  seed: number,
  signal: number,
  noise: number,
): Tokens {
  const plain = noisyTokens(rows, cols, tokens, seed, noise)
  const map = (height: number, n: number) => {
    const { data } = gaussianMatrix(height, cols, 77 + n)
    return dense(
      matrix(
        height,
        cols,
        data.map((value) => (signal * value) / Math.sqrt(cols)),
      ),
    )
  }
  const follow = (to: Matrix, n: number) =>
    matrix(
      to.rows,
      to.cols,
      Float32Array.from(dense(plain.present).mmul(map(to.cols, n).transpose()).to1DArray()),
    )
  return {
    ...plain,
    full: plus(plain.full, follow(plain.full, 0), 1),
    fullResidual: plus(plain.fullResidual, follow(plain.fullResidual, 1), 1),
  }
}

function plus(a: Matrix, b: Matrix, factor: number): Matrix {
  return matrix(
    a.rows,
    a.cols,
    a.data.map((value, i) => value + factor * b.data[i]),
  )
}

function rowsOf({ cols, data }: Matrix, from: number, to: number): Matrix {
  return matrix(to - from, cols, data.subarray(from * cols, to * cols))
}

function driftOf({ full, present, fullResidual, residual }: Tokens, from: number, to: number): LayerDrift {
  const cut = (m: Matrix) => rowsOf(m, from, to)
  const input = driftAccumulator(full.cols, present.cols)
  input.add(cut(full), cut(present), cut(present))
  const stream = driftAccumulator(residual.cols, present.cols)
  stream.add(cut(fullResidual), cut(residual), cut(present))
  return { tokens: input.tokens, input: input.drift(), residual: stream.drift() }
}

function halvesOf(tokens: Tokens, middle = Math.floor(tokens.full.rows / 2)): DriftHalves {
  return [driftOf(tokens, 0, middle), driftOf(tokens, middle, tokens.full.rows)]
}

/** Twice the same tokens agree on everything, noise included: plain least squares. */
function sameTwice(tokens: Tokens): DriftHalves {
  const all = driftOf(tokens, 0, tokens.full.rows)
  return [all, all]
}

/** Mean square of `W X_full + R_full - (W' X + R)`, what the output differs from that of the full model. */
function outputError(
  { full, present, fullResidual, residual }: Tokens,
  weight: Matrix,
  corrected: Matrix,
): number {
  const wanted = dense(full).mmul(dense(weight).transpose()).add(dense(fullResidual))
  const given = dense(present).mmul(dense(corrected).transpose()).add(dense(residual))
  return wanted.sub(given).norm() ** 2 / full.rows
}

function correct(
  weight: Matrix,
  { present }: Tokens,
  halves: DriftHalves,
  options: DriftCorrectionOptions = { maxMove: Number.POSITIVE_INFINITY },
) {
  return correctDrift(weight, hessianOf(present), halves, options)
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, value) => total + value, 0)

const shapes = fc.record({
  rows: fc.integer({ min: 1, max: 9 }),
  cols: fc.integer({ min: 1, max: 40 }),
  seed: fc.nat(1000),
})

describe('correctDrift', () => {
  it('gives the least-squares weights for the shares it states, as a dense inverse in float64 does', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.double({ min: 0, max: 1, noNaN: true }), async (shape, share) => {
        const { rows, cols, seed } = shape
        const tokens = drifting(rows, cols, 6 * cols, seed, 0.3, 0.1)
        const weight = randomActivations(cols, rows, seed + 4)
        const drift = driftOf(tokens, 0, 6 * cols)
        const damped = dense(hessianOf(tokens.present))
        damped.add(DenseMatrix.eye(cols).mul((0.01 * damped.trace()) / cols))
        const maxMove = Number.POSITIVE_INFINITY
        const corrected = await correct(weight, tokens, halvesOf(tokens), { share, maxMove })
        const pull = dense(weight).mmul(dense(drift.input)).mul(corrected.inputShare)
        pull.add(dense(drift.residual!).mul(corrected.residualShare!))
        const expected = dense(weight).add(pull.mmul(inverse(damped)))
        expectClose(corrected.weight.data, expected.to1DArray(), 2e-4 * largestElement(expected))
        expect(corrected.move).toBeCloseTo(
          DenseMatrix.sub(expected, dense(weight)).norm() / dense(weight).norm(),
          3,
        )
        expect(corrected.unboundedMove).toBe(corrected.move)
      }),
      { numRuns: 40 },
    )
  })

  it('takes from halves that are the same all of the drift, and comes nearest to the full model with it', async () => {
    const tokens = drifting(8, 24, 300, 5, 0.5, 0.3)
    const weight = randomActivations(24, 8, 9)
    const errorAt = async (share: number) => {
      const options = { share, damping: 1e-6, maxMove: Number.POSITIVE_INFINITY }
      const corrected = await correct(weight, tokens, sameTwice(tokens), options)
      expect(corrected.inputShare).toBeCloseTo(share, 6)
      expect(corrected.residualShare).toBeCloseTo(share, 6)
      return outputError(tokens, weight, corrected.weight)
    }
    const errors = await Promise.all([0, 0.25, 0.5, 0.75, 1].map(errorAt))
    for (let i = 1; i < errors.length; i++) expect(errors[i]).toBeLessThan(errors[i - 1])
    expect(errors[0]).toBeCloseTo(outputError(tokens, weight, weight), 4)
  })

  it('chooses from two halves the share that does best on text that neither has seen, of all on a grid', async () => {
    const [rows, cols, seen, inAll] = [8, 24, 160, 700]
    const weight = randomActivations(cols, rows, 9)
    const grid = Array.from({ length: 11 }, (_, i) => i / 10)
    const best: number[] = []
    for (const signal of [0, 0.4, 2]) {
      let chosenError = 0
      const errors = grid.map(() => 0)
      for (let seed = 0; seed < 8; seed++) {
        const all = drifting(rows, cols, inAll, 100 * seed, signal, 0.7)
        const [tokens, fresh] = [cutTokens(all, 0, seen), cutTokens(all, seen, inAll)]
        const chosen = await correct(weight, tokens, halvesOf(tokens))
        chosenError += outputError(fresh, weight, chosen.weight)
        const unshrunk = await correct(weight, tokens, sameTwice(tokens))
        const move = plus(unshrunk.weight, weight, -1)
        for (const [i, share] of grid.entries()) {
          errors[i] += outputError(fresh, weight, plus(weight, move, share))
        }
      }
      best.push(grid[errors.indexOf(Math.min(...errors))])
      const worse = Math.max(errors[0], errors[10])
      expect((worse - chosenError) / (worse - Math.min(...errors))).toBeGreaterThan(0.9)
    }
    expect(best[0]).toBe(0)
    expect(best[1]).toBeGreaterThan(0.2)
    expect(best[1]).toBeLessThan(0.8)
    expect(best[2]).toBeGreaterThan(0.8)
  })

  it('leaves drift that is all noise nearly alone, however large it is', async () => {
    for (const noise of [0.3, 30]) {
      const shares: number[] = []
      for (let seed = 0; seed < 12; seed++) {
        const tokens = noisyTokens(6, 32, 128, 50 * seed, noise)
        const weight = randomActivations(32, 6, seed)
        const { inputShare, residualShare } = await correct(weight, tokens, halvesOf(tokens))
        shares.push(inputShare, residualShare!)
      }
      expect(sum(shares) / shares.length).toBeLessThan(0.1)
    }
  })

  it('never moves the weights by more than the bound, and keeps the direction where it cuts', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.double({ min: 0.01, max: 2, noNaN: true }), async (shape, maxMove) => {
        const { rows, cols, seed } = shape
        const tokens = drifting(rows, cols, 3 * cols, seed, 3, 0.3)
        const weight = randomActivations(cols, rows, seed + 4)
        const halves = halvesOf(tokens)
        const bounded = await correct(weight, tokens, halves, { maxMove })
        const free = await correct(weight, tokens, halves)
        const size = dense(weight).norm()
        const move = DenseMatrix.sub(dense(bounded.weight), dense(weight))
        expect(move.norm()).toBeLessThanOrEqual(maxMove * size * (1 + 1e-5))
        expect(bounded.move).toBeCloseTo(move.norm() / size, 4)
        expect(bounded.unboundedMove).toBe(free.move)
        const kept = Math.min(1, maxMove / free.move)
        expect(bounded.inputShare).toBeCloseTo(kept * free.inputShare, 9)
        expect(bounded.residualShare).toBeCloseTo(kept * free.residualShare!, 9)
        const expected = DenseMatrix.sub(dense(free.weight), dense(weight)).mul(kept)
        expectClose(move.to1DArray(), expected.to1DArray(), 1e-5 * (size + largestElement(expected)))
      }),
      { numRuns: 40 },
    )
  })

  it('gives the same weights whatever the unit of the activations', async () => {
    const tokens = drifting(5, 20, 100, 3, 0.3, 0.3)
    const weight = randomActivations(20, 5, 4)
    const scaled = (m: Matrix, factor: number) =>
      matrix(
        m.rows,
        m.cols,
        m.data.map((value) => factor * value),
      )
    const larger: Tokens = {
      full: scaled(tokens.full, 16),
      present: scaled(tokens.present, 16),
      fullResidual: scaled(tokens.fullResidual, 16),
      residual: scaled(tokens.residual, 16),
    }
    // powers of two round nothing
    expect(await correct(weight, larger, halvesOf(larger), {})).toEqual(
      await correct(weight, tokens, halvesOf(tokens), {}),
    )
  })

  it('weighs halves by their tokens, in either order', async () => {
    const tokens = drifting(4, 12, 90, 3, 0.5, 0.2)
    const weight = randomActivations(12, 4, 4)
    const [first, second] = halvesOf(tokens, 20)
    const one = await correct(weight, tokens, [first, second])
    const other = await correct(weight, tokens, [second, first])
    expectClose(one.weight.data, other.weight.data, 1e-6)
    expect(one.inputShare).toBeCloseTo(other.inputShare, 6)
    const pull = dense(weight)
      .mmul(dense(first.input))
      .mul(20 / 90)
    pull.add(
      dense(weight)
        .mmul(dense(second.input))
        .mul(70 / 90),
    )
    const whole = dense(weight).mmul(dense(driftOf(tokens, 0, 90).input))
    expectClose(pull.to1DArray(), whole.to1DArray(), 1e-4 * largestElement(whole))
  })

  it('changes nothing without drift, and no weights that are all zero', async () => {
    const tokens = noisyTokens(4, 12, 60, 7)
    const weight = randomActivations(12, 4, 8)
    const still: LayerDrift = { tokens: 30, input: matrix(12, 12), residual: matrix(4, 12) }
    expect(await correct(weight, tokens, [still, still])).toEqual({
      weight,
      inputShare: 0,
      residualShare: 0,
      move: 0,
      unboundedMove: 0,
    })
    const zero = await correct(matrix(4, 12), tokens, sameTwice(tokens))
    expect(zero).toMatchObject({ weight: matrix(4, 12), move: 0 })
    const { input } = driftOf(tokens, 0, 60)
    const half = { tokens: 30, input }
    expect((await correct(weight, tokens, [half, half])).residualShare).toBe(null)
  })

  it('leaves the weights of inputs that are always zero alone', async () => {
    const tokens = noisyTokens(4, 10, 80, 8)
    for (let t = 0; t < 80; t++) tokens.present.data[t * 10 + 3] = 0
    const weight = randomActivations(10, 4, 10)
    const corrected = await correct(weight, tokens, sameTwice(tokens))
    const column = (m: Matrix, j: number) => Array.from({ length: 4 }, (_, r) => m.data[r * 10 + j])
    expect(column(corrected.weight, 3)).toEqual(column(weight, 3))
    expect(column(corrected.weight, 4)).not.toEqual(column(weight, 4))
  })

  it('names the layer and what does not fit', async () => {
    const tokens = noisyTokens(4, 12, 60, 7)
    const weight = randomActivations(12, 4, 8)
    const half = driftOf(tokens, 0, 60)
    const refused = (halves: DriftHalves, options: DriftCorrectionOptions = {}) =>
      rejectionOf(() => correct(weight, tokens, halves, options))
    expect(await refused([half, { ...half, input: matrix(11, 12) }], { name: 'q' })).toEqual(
      new ShapeError('q: the drift of the inputs is 11 x 12, expected 12 x 12'),
    )
    expect(await refused([{ ...half, residual: matrix(4, 11) }, half])).toBeInstanceOf(ShapeError)
    expect(await refused([half, { tokens: 30, input: half.input }])).toEqual(
      new ShapeError('weight: only one half of the drift has a residual stream, expected both or none'),
    )
    expect(await refused([half, { ...half, tokens: 0 }])).toEqual(
      new ShapeError('weight: a half of the drift has 0 tokens, expected a positive whole number'),
    )
    expect(await refused([half, half], { share: 1.5 })).toBeInstanceOf(OptionError)
    expect(await refused([half, half], { maxMove: 0 })).toEqual(
      new OptionError('maxMove', 'expected a finite number above 0, got 0'),
    )
    half.input.data[5] = Number.NaN
    expect(await refused([half, half])).toBeInstanceOf(NumericError)
  })
})

function cutTokens(tokens: Tokens, from: number, to: number): Tokens {
  const cut = (m: Matrix) => rowsOf(m, from, to)
  return {
    full: cut(tokens.full),
    present: cut(tokens.present),
    fullResidual: cut(tokens.fullResidual),
    residual: cut(tokens.residual),
  }
}

describe('driftAccumulator', () => {
  it('sums (full - present)^T inputs over batches, as float64 does, small beside large activations too', async () => {
    const [full, present, inputs] = [3, 4, 5].map((seed) => randomActivations(seed === 5 ? 7 : 9, 500, seed))
    for (let i = 0; i < full.data.length; i++) present.data[i] = full.data[i] * (1 + 1e-4 * Math.sin(i))
    const accumulator = driftAccumulator(9, 7)
    for (const [from, to] of [
      [0, 120],
      [120, 121],
      [121, 500],
    ]) {
      accumulator.add(rowsOf(full, from, to), rowsOf(present, from, to), rowsOf(inputs, from, to))
      expect(accumulator.tokens).toBe(to)
    }
    const expected = DenseMatrix.sub(dense(full), dense(present))
      .transpose()
      .mmul(dense(inputs))
      .mul(2 / 500)
    expectClose(accumulator.drift().data, expected.to1DArray(), 1e-3 * largestElement(expected))
  })

  it('refuses activations of other shapes, and to give a drift of nothing', async () => {
    const accumulator = driftAccumulator(3, 2)
    expect(() => accumulator.drift()).toThrow(NumericError)
    expect(() => accumulator.add(matrix(4, 3), matrix(4, 2), matrix(4, 2))).toThrow(ShapeError)
    expect(() => accumulator.add(matrix(4, 3), matrix(5, 3), matrix(4, 2))).toThrow(ShapeError)
  })
})
