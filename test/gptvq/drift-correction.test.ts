import fc from 'fast-check'
import { Matrix as DenseMatrix, inverse } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import { driftAccumulator } from '../../src/drift.js'
import { NumericError, OptionError, ShapeError } from '../../src/errors.js'
import { correctDrift } from '../../src/gptvq/drift-correction.js'
import { type Matrix, matrix } from '../../src/matrix.js'
import { dense, largestElement } from '../support/float64-algebra.js'
import { hessianOf, randomActivations } from '../support/random-matrix.js'
import { expectClose, rejectionOf } from '../support/tolerance.js'

/** Inputs and residual of a layer in the full and in the quantized model. */
function layer(rows: number, cols: number, tokens: number, seed: number) {
  const full = randomActivations(cols, tokens, seed)
  const present = withNoise(full, seed + 1)
  const fullResidual = randomActivations(rows, tokens, seed + 2)
  const residual = withNoise(fullResidual, seed + 3)
  const input = driftAccumulator(cols, cols)
  input.add(full, present, present)
  const stream = driftAccumulator(rows, cols)
  stream.add(fullResidual, residual, present)
  const weight = randomActivations(cols, rows, seed + 4)
  const drift = { input: input.drift(), residual: stream.drift() }
  return { weight, full, present, fullResidual, residual, hessian: hessianOf(present), drift }
}

function withNoise(x: Matrix, seed: number): Matrix {
  const noise = randomActivations(x.cols, x.rows, seed)
  return matrix(
    x.rows,
    x.cols,
    x.data.map((value, i) => value + 0.3 * noise.data[i]),
  )
}

/** `|| W X_full + R_full - (W' X + R) ||^2`, what the output differs from that of the full model. */
function outputError(setting: ReturnType<typeof layer>, corrected: Matrix): number {
  const { weight, full, present, fullResidual, residual } = setting
  const wanted = dense(full).mmul(dense(weight).transpose()).add(dense(fullResidual))
  const given = dense(present).mmul(dense(corrected).transpose()).add(dense(residual))
  return wanted.sub(given).norm() ** 2
}

const shapes = fc.record({
  rows: fc.integer({ min: 1, max: 9 }),
  cols: fc.integer({ min: 1, max: 40 }),
  seed: fc.nat(1000),
})

describe('correctDrift', () => {
  it('gives the least-squares weights, as a dense inverse in float64 does', async () => {
    await fc.assert(
      fc.asyncProperty(
        shapes,
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (shape, inputShare, residualShare) => {
          const { rows, cols, seed } = shape
          const { weight, hessian, drift } = layer(rows, cols, 6 * cols, seed)
          const damped = dense(hessian)
          damped.add(DenseMatrix.eye(cols).mul((0.01 * damped.trace()) / cols))
          const pull = dense(weight).mmul(dense(drift.input)).mul(inputShare)
          pull.add(dense(drift.residual).mul(residualShare))
          const expected = dense(weight).add(pull.mmul(inverse(damped)))
          const corrected = await correctDrift(weight, hessian, drift, { inputShare, residualShare })
          expectClose(corrected.data, expected.to1DArray(), 2e-4 * largestElement(expected))
        },
      ),
      { numRuns: 40 },
    )
  })

  it('brings the output nearest to that of the full model where it makes up for all of the drift', async () => {
    const setting = layer(8, 24, 300, 5)
    const errorAt = async (share: number) =>
      outputError(
        setting,
        await correctDrift(setting.weight, setting.hessian, setting.drift, {
          inputShare: share,
          residualShare: share,
          damping: 1e-6,
        }),
      )
    const errors = await Promise.all([0, 0.25, 0.5, 0.75, 1].map(errorAt))
    for (let i = 1; i < errors.length; i++) expect(errors[i]).toBeLessThan(errors[i - 1])
    expect(errors[0]).toBeCloseTo(outputError(setting, setting.weight), 2)
  })

  it('changes nothing without drift', async () => {
    const { weight, hessian } = layer(4, 12, 60, 7)
    expect((await correctDrift(weight, hessian, { input: matrix(12, 12) })).data).toEqual(weight.data)
  })

  it('leaves the weights of inputs that are always zero alone', async () => {
    const present = randomActivations(10, 80, 8)
    const full = withNoise(present, 9)
    for (let t = 0; t < 80; t++) present.data[t * 10 + 3] = 0
    const drift = driftAccumulator(10, 10)
    drift.add(full, present, present)
    const weight = randomActivations(10, 4, 10)
    const corrected = await correctDrift(weight, hessianOf(present), { input: drift.drift() })
    const column = (m: Matrix, j: number) => Array.from({ length: 4 }, (_, r) => m.data[r * 10 + j])
    expect(column(corrected, 3)).toEqual(column(weight, 3))
    expect(column(corrected, 4)).not.toEqual(column(weight, 4))
  })

  it('names the layer and what does not fit', async () => {
    const { weight, hessian, drift } = layer(4, 12, 60, 7)
    const refused = async (change: () => Promise<unknown>) => (await rejectionOf(change)) as Error
    expect(
      await refused(() => correctDrift(weight, hessian, { input: matrix(11, 12) }, { name: 'q' })),
    ).toEqual(new ShapeError('q: the drift of the inputs is 11 x 12, expected 12 x 12'))
    expect(
      await refused(() => correctDrift(weight, hessian, { ...drift, residual: matrix(4, 11) })),
    ).toBeInstanceOf(ShapeError)
    expect(await refused(() => correctDrift(weight, hessian, drift, { inputShare: 1.5 }))).toBeInstanceOf(
      OptionError,
    )
    drift.input.data[5] = Number.NaN
    expect(await refused(() => correctDrift(weight, hessian, drift))).toBeInstanceOf(NumericError)
  })
})

describe('driftAccumulator', () => {
  it('sums (full - present)^T inputs over batches, as float64 does, small beside large activations too', async () => {
    const [full, present, inputs] = [3, 4, 5].map((seed) => randomActivations(seed === 5 ? 7 : 9, 500, seed))
    for (let i = 0; i < full.data.length; i++) present.data[i] = full.data[i] * (1 + 1e-4 * Math.sin(i))
    const accumulator = driftAccumulator(9, 7)
    const rows = (m: Matrix, from: number, to: number) =>
      matrix(to - from, m.cols, m.data.subarray(from * m.cols, to * m.cols))
    for (const [from, to] of [
      [0, 120],
      [120, 121],
      [121, 500],
    ]) {
      accumulator.add(rows(full, from, to), rows(present, from, to), rows(inputs, from, to))
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
