import { Matrix as DenseMatrix } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import { NumericError, ShapeError } from '../src/errors.js'
import { dampedInverseFactor, requireFit } from '../src/inverse-factor.js'
import { copyMatrix, type Matrix, matrix } from '../src/matrix.js'
import { countAllocated } from './support/count-allocated.js'
import { dense, inverseFactorOracle, largestElement } from './support/float64-algebra.js'
import { hessianOf, randomActivations, randomHessian } from './support/random-matrix.js'
import { expectClose, thrownBy } from './support/tolerance.js'

function scaled(h: Matrix, factor: number): Matrix {
  return matrix(
    h.rows,
    h.cols,
    h.data.map((value) => value * factor),
  )
}

/** `(H / m + damping I)` with `m` the mean of the diagonal, in float64. */
function dampedInUnits(h: Matrix, damping: number): DenseMatrix {
  const exact = dense(h)
  return exact.mul(h.rows / exact.trace()).add(DenseMatrix.eye(h.rows).mul(damping))
}

/** Activations of which some features are always zero, and their Hessian. */
function hessianWithDead(n: number, dead: readonly number[]): Matrix {
  const x = randomActivations(n, 4 * n, 1)
  for (let i = 0; i < x.data.length; i++) if (dead.includes(i % n)) x.data[i] = 0
  return hessianOf(x)
}

function expectRefused(action: () => unknown, kind: new (message: string) => Error, parts: string[]): void {
  const error = thrownBy(action)
  expect(error).toBeInstanceOf(kind)
  for (const part of parts) expect((error as Error).message).toContain(part)
}

describe('a column whose diagonal underflowed to 0', () => {
  it('is untied from the columns before and after it', () => {
    const h = matrix(3, 3, Float32Array.of(1, 0.2, 0.3, 0.2, 0, 0.2, 0.3, 0.2, 1))
    const plain = dampedInverseFactor(h, 0.01, 3, 'layer').factor.data
    expect(plain[1]).toBe(0)
    expect(plain[5]).toBe(0)
    expect(plain[4]).toBe(1)
  })
})

describe('dampedInverseFactor', () => {
  it.each([0.01, 0.3])('U^T U is the inverse of the Hessian damped by %d of its mean diagonal', (damping) => {
    const h = randomHessian(90, 400, 2)
    const expected = inverseFactorOracle(dampedInUnits(h, damping))
    const { factor, dead } = dampedInverseFactor(h, damping, 90, 'layer')
    expectClose(factor.data, expected.to1DArray(), 2e-5 * largestElement(expected))
    expect([...dead]).toEqual(Array(90).fill(0))
  })

  it('leaves the Hessian untouched', () => {
    const h = randomHessian(20, 100, 3)
    const before = copyMatrix(h)
    dampedInverseFactor(h, 0.01, 22, 'layer')
    expect(h.data).toEqual(before.data)
  })

  it('does not depend on the scale of the activations', () => {
    const h = randomHessian(40, 200, 4)
    const { factor } = dampedInverseFactor(h, 0.01, 40, 'layer')
    for (const factorOfTwo of [1024, 2 ** -40]) {
      expect(dampedInverseFactor(scaled(h, factorOfTwo), 0.01, 40, 'layer').factor.data).toEqual(factor.data)
    }
    for (const other of [1000, 1e-20, 1e20]) {
      expectClose(dampedInverseFactor(scaled(h, other), 0.01, 40, 'layer').factor.data, factor.data, 1e-4)
    }
  })

  it('gives dead columns a diagonal of 1 and no tie to others, and the others what they have without them', () => {
    const n = 12
    const dead = [0, 5, 11]
    const alive = [...Array(n).keys()].filter((i) => !dead.includes(i))
    const h = hessianWithDead(n, dead)
    const result = dampedInverseFactor(h, 0.05, n, 'layer')
    expect([...result.dead.keys()].filter((i) => result.dead[i])).toEqual(dead)
    const u = dense(result.factor)
    for (const i of dead) {
      for (let j = 0; j < n; j++) {
        expect(u.get(i, j)).toBe(i === j ? 1 : 0)
        expect(u.get(j, i)).toBe(i === j ? 1 : 0)
      }
    }
    const damped = dampedInUnits(h, 0.05)
    const expected = inverseFactorOracle(damped.selection(alive, alive))
    expect(largestElement(u.selection(alive, alive).sub(expected))).toBeLessThan(
      1e-5 * largestElement(expected),
    )
  })

  it('gives the identity when every column is dead', () => {
    const { factor, dead } = dampedInverseFactor(matrix(3, 3), 0.01, 3, 'layer')
    expect([...factor.data]).toEqual([1, 0, 0, 0, 1, 0, 0, 0, 1])
    expect([...dead]).toEqual([1, 1, 1])
  })

  it('pads with columns of the identity that change nothing else', () => {
    const h = randomHessian(13, 60, 5)
    const plain = dampedInverseFactor(h, 0.01, 13, 'layer').factor
    const { factor, dead } = dampedInverseFactor(h, 0.01, 16, 'layer')
    const expected = matrix(16, 16)
    for (let i = 0; i < 13; i++) {
      expected.data.set(plain.data.subarray(i * 13, (i + 1) * 13), i * 16)
    }
    for (let i = 13; i < 16; i++) expected.data[i * 16 + i] = 1
    expect(factor.data).toEqual(expected.data)
    expect([...dead]).toEqual(Array(16).fill(0))
  })

  it('allocates one matrix and the two panels of the factorization, so far less than three', () => {
    const n = 512
    const h = matrix(n, n)
    for (let i = 0; i < n; i++) h.data[i * n + i] = 1 + (i % 7)
    const allocated = countAllocated(() => dampedInverseFactor(h, 0.01, n, 'layer'))
    expect(allocated).toEqual({ float32: n * n + 2 * 64 * n + 64 * 64, float64: 64 })
  })

  it('refuses a singular Hessian without damping, naming the layer and the damping tried', () => {
    const singular = randomHessian(40, 10, 6)
    expectRefused(() => dampedInverseFactor(singular, 0, 40, 'layers.3.q_proj'), NumericError, [
      'layers.3.q_proj',
      'damping 0,',
      'not positive definite',
    ])
    expect(() => dampedInverseFactor(singular, 0.01, 40, 'layers.3.q_proj')).not.toThrow()
  })

  it('refuses a Hessian that damping cannot save, naming the damping tried', () => {
    const indefinite = matrix(2, 2, Float32Array.of(1, 5, 5, 1))
    expectRefused(() => dampedInverseFactor(indefinite, 0.25, 2, 'layer'), NumericError, ['damping 0.25'])
  })

  it('refuses a Hessian whose halves differ, naming both elements', () => {
    const h = randomHessian(5, 30, 7)
    h.data[3 * 5 + 1] += 1
    expectRefused(() => dampedInverseFactor(h, 0.01, 5, 'layers.0.up'), NumericError, [
      'layers.0.up',
      'not symmetric',
      '(3, 1)',
      '(1, 3)',
    ])
  })

  it('accepts halves that differ by rounding', () => {
    const h = randomHessian(5, 30, 8)
    h.data[3 * 5 + 1] *= 1 + 1e-6
    expect(() => dampedInverseFactor(h, 0.01, 5, 'layer')).not.toThrow()
  })

  it('refuses a negative diagonal, naming where', () => {
    const h = randomHessian(4, 30, 9)
    h.data[2 * 4 + 2] = -0.5
    expectRefused(() => dampedInverseFactor(h, 0.01, 4, 'layers.1'), NumericError, ['layers.1', '-0.5 at 2'])
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %d in the Hessian, naming where', (value) => {
    const h = randomHessian(4, 30, 10)
    h.data[1 * 4 + 3] = value
    expectRefused(() => dampedInverseFactor(h, 0.01, 4, 'layers.1'), NumericError, [
      `layers.1: Hessian: found ${value} at row 1, column 3`,
    ])
  })

  it('refuses a Hessian that is not square', () => {
    expectRefused(() => dampedInverseFactor(matrix(3, 4), 0.01, 4, 'layers.1'), ShapeError, [
      'layers.1',
      '3 x 4',
    ])
  })
})

describe('requireFit', () => {
  it('accepts a weight and the Hessian of its inputs', () => {
    expect(() => requireFit(matrix(2, 3), matrix(3, 3), 'layer')).not.toThrow()
  })

  it('refuses a Hessian of another width, naming layer and shapes', () => {
    expectRefused(() => requireFit(matrix(2, 3), matrix(2, 2), 'layers.9'), ShapeError, [
      'layers.9',
      '2 x 2',
      '2 x 3',
      '3 x 3',
    ])
    expectRefused(() => requireFit(matrix(2, 3), matrix(3, 2), 'layers.9'), ShapeError, ['3 x 2'])
  })

  it('refuses NaN in the weight, naming where', () => {
    const weight = matrix(2, 3)
    weight.data[4] = Number.NaN
    expectRefused(() => requireFit(weight, matrix(3, 3), 'layers.9'), NumericError, [
      'layers.9: found NaN at row 1, column 1',
    ])
  })
})
