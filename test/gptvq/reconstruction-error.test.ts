import { describe, expect, it } from 'vitest'
import type { Matrix } from '../../src/common/matrix.js'
import { matrix, NumericError, reconstructionError, ShapeError } from '../../src/index.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'
import { dense } from './oracle.js'

/** `tr(D H D^T)` in float64, without the rows x rows matrix whose trace it is. */
function energyOf(weight: Matrix, quantized: Matrix, hessian: Matrix): number {
  const difference = dense(weight).sub(dense(quantized))
  return difference.mmul(dense(hessian)).mul(difference).sum()
}

describe('reconstructionError', () => {
  it.each([
    [1, 1],
    [7, 33],
    // more rows than one panel of products holds
    [4099, 257],
  ])('is tr((W-Q) H (W-Q)^T) / tr(W H W^T) in float64, %i x %i', (rows, cols) => {
    const weight = gaussianMatrix(rows, cols, 1)
    const quantized = gaussianMatrix(rows, cols, 2)
    const hessian = randomHessian(cols, 2 * cols, 3)
    const expected = energyOf(weight, quantized, hessian) / energyOf(weight, matrix(rows, cols), hessian)
    const { relative, snrDb } = reconstructionError(weight, quantized, hessian)
    expect(Math.abs(relative / expected - 1)).toBeLessThan(1e-5)
    expect(snrDb).toBeCloseTo(-10 * Math.log10(expected), 4)
  })

  it('is 0, or infinitely many dB, for equal matrices and for inputs that are always zero', () => {
    const weight = gaussianMatrix(3, 5, 1)
    const exact = { relative: 0, snrDb: Number.POSITIVE_INFINITY }
    expect(reconstructionError(weight, weight, randomHessian(5, 20, 2))).toEqual(exact)
    expect(reconstructionError(weight, gaussianMatrix(3, 5, 4), matrix(5, 5))).toEqual(exact)
  })

  it.each([
    ['a NaN in the weights', Number.NaN, 1],
    ['an infinity in the weights', Number.NEGATIVE_INFINITY, 1],
    ['a NaN in the Hessian', 1, Number.NaN],
  ])('refuses %s rather than report a layer as exact', (_, w, h) => {
    const weight = matrix(2, 3, new Float32Array(6).fill(w))
    const hessian = matrix(3, 3, new Float32Array(9).fill(h))
    expect(() => reconstructionError(weight, matrix(2, 3), hessian)).toThrow(NumericError)
    expect(() => reconstructionError(weight, matrix(2, 3), hessian)).toThrow(
      /tr\(W H W\^T\) is (NaN|Infinity)/,
    )
  })

  it('measures weights and Hessians near the ends of float32 as any other', () => {
    const error = (unit: number, energy: number) => {
      const [weight, quantized] = [gaussianMatrix(3, 5, 1), gaussianMatrix(3, 5, 2)]
      const hessian = randomHessian(5, 20, 3)
      for (const { data } of [weight, quantized]) for (let i = 0; i < data.length; i++) data[i] *= unit
      for (let i = 0; i < hessian.data.length; i++) hessian.data[i] *= energy
      return reconstructionError(weight, quantized, hessian).relative
    }
    expect(error(2 ** 120, 2 ** 100)).toBe(error(1, 1))
    expect(error(2 ** -100, 2 ** -90)).toBe(error(1, 1))
  })

  it.each([
    [2, 3, 3],
    [3, 2, 2],
    [2, 2, 3],
  ])('refuses a quantized matrix of %i x %i with a Hessian of size %i for a 2 x 2 layer', (rows, cols, n) => {
    expect(() => reconstructionError(matrix(2, 2), matrix(rows, cols), matrix(n, n))).toThrow(ShapeError)
  })
})
