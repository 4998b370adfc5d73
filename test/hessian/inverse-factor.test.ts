import { Matrix as DenseMatrix } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import { NumericError, ShapeError } from '../../src/common/errors.js'
import { copyMatrix, type Matrix, matrix } from '../../src/common/matrix.js'
import { dampedInverseFactor, requireFit } from '../../src/hessian/inverse-factor.js'
import { countAllocatedBy } from '../support/count-allocated.js'
import { dense, inverseFactorOracle, largestElement } from '../support/float64-algebra.js'
import { hessianOf, randomActivations, randomHessian } from '../support/random-matrix.js'
import { expectClose, rejectionOf } from '../support/tolerance.js'

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

async function expectRefused(
  action: () => unknown,
  kind: new (message: string) => Error,
  parts: string[],
): Promise<void> {
  const error = await rejectionOf(action)
  expect(error).toBeInstanceOf(kind)
  for (const part of parts) expect((error as Error).message).toContain(part)
}

describe('a column whose diagonal underflowed to 0', () => {
  it('is untied from the columns before and after it', async () => {
    const h = matrix(3, 3, Float32Array.of(1, 0.2, 0.3, 0.2, 0, 0.2, 0.3, 0.2, 1))
    const plain = (await dampedInverseFactor(h, 0.01, 3, 'layer')).factor.data
    expect(plain[1]).toBe(0)
    expect(plain[5]).toBe(0)
    expect(plain[4]).toBe(10)
  })
})

describe('dampedInverseFactor', () => {
  it.each([0.01, 0.3])(
    'U^T U is the inverse of the Hessian damped by %d of its mean diagonal',
    async (damping) => {
      const h = randomHessian(90, 400, 2)
      const expected = inverseFactorOracle(dampedInUnits(h, damping))
      const { factor, dead } = await dampedInverseFactor(h, damping, 90, 'layer')
      expectClose(factor.data, expected.to1DArray(), 2e-5 * largestElement(expected))
      expect([...dead]).toEqual(Array(90).fill(0))
    },
  )

  it('leaves the Hessian untouched', async () => {
    const h = randomHessian(20, 100, 3)
    const before = copyMatrix(h)
    await dampedInverseFactor(h, 0.01, 22, 'layer')
    expect(h.data).toEqual(before.data)
  })

  it('does not depend on the scale of the activations', async () => {
    const h = randomHessian(40, 200, 4)
    const { factor } = await dampedInverseFactor(h, 0.01, 40, 'layer')
    for (const factorOfTwo of [1024, 2 ** -40]) {
      expect((await dampedInverseFactor(scaled(h, factorOfTwo), 0.01, 40, 'layer')).factor.data).toEqual(
        factor.data,
      )
    }
    for (const other of [1000, 1e-20, 1e20]) {
      expectClose(
        (await dampedInverseFactor(scaled(h, other), 0.01, 40, 'layer')).factor.data,
        factor.data,
        1e-4,
      )
    }
  })

  it('gives dead columns the damping alone and no tie to others, and the others what they have without them', async () => {
    const n = 12
    const dead = [0, 5, 11]
    const alive = [...Array(n).keys()].filter((i) => !dead.includes(i))
    const h = hessianWithDead(n, dead)
    const result = await dampedInverseFactor(h, 0.05, n, 'layer')
    expect([...result.dead.keys()].filter((i) => result.dead[i])).toEqual(dead)
    const u = dense(result.factor)
    for (const i of dead) {
      for (let j = 0; j < n; j++) {
        expect(u.get(i, j)).toBeCloseTo(i === j ? Math.sqrt(1 / 0.05) : 0, 5)
        expect(u.get(j, i)).toBeCloseTo(i === j ? Math.sqrt(1 / 0.05) : 0, 5)
      }
    }
    const damped = dampedInUnits(h, 0.05)
    const expected = inverseFactorOracle(damped.selection(alive, alive))
    expect(largestElement(u.selection(alive, alive).sub(expected))).toBeLessThan(
      1e-5 * largestElement(expected),
    )
  })

  it('takes a Hessian in which every column is dead: the identity over the root of the damping, without it the identity', async () => {
    for (const [damping, value] of [
      [0.25, 2],
      [0, 1],
    ]) {
      const { factor, dead } = await dampedInverseFactor(matrix(3, 3), damping, 3, 'layer')
      expect([...factor.data]).toEqual([value, 0, 0, 0, value, 0, 0, 0, value])
      expect([...dead]).toEqual([1, 1, 1])
    }
  })

  it('pads with columns of the damping alone that change nothing else', async () => {
    const h = randomHessian(13, 60, 5)
    const plain = (await dampedInverseFactor(h, 0.01, 13, 'layer')).factor
    const { factor, dead } = await dampedInverseFactor(h, 0.01, 16, 'layer')
    const expected = matrix(16, 16)
    for (let i = 0; i < 13; i++) {
      expected.data.set(plain.data.subarray(i * 13, (i + 1) * 13), i * 16)
    }
    for (let i = 13; i < 16; i++) expected.data[i * 16 + i] = 10
    expect(factor.data).toEqual(expected.data)
    expect([...dead]).toEqual(Array(16).fill(0))
  })

  it('allocates one matrix and the two panels of the factorization, so far less than three', async () => {
    const n = 512
    const h = matrix(n, n)
    for (let i = 0; i < n; i++) h.data[i * n + i] = 1 + (i % 7)
    const allocated = await countAllocatedBy(() => dampedInverseFactor(h, 0.01, n, 'layer'))
    expect(allocated).toEqual({ float32: n * n + 2 * 64 * n + 64 * 64, float64: 64 })
  })

  it('refuses a singular Hessian without damping, naming the layer and the damping tried', async () => {
    const singular = randomHessian(40, 10, 6)
    await expectRefused(() => dampedInverseFactor(singular, 0, 40, 'layers.3.q_proj'), NumericError, [
      'layers.3.q_proj',
      'damping 0,',
      'not positive definite',
    ])
    await expect(dampedInverseFactor(singular, 0.01, 40, 'layers.3.q_proj')).resolves.toBeDefined()
  })

  it('refuses a Hessian that damping cannot save, naming the damping tried', async () => {
    const indefinite = matrix(2, 2, Float32Array.of(1, 5, 5, 1))
    await expectRefused(() => dampedInverseFactor(indefinite, 0.25, 2, 'layer'), NumericError, [
      'damping 0.25',
    ])
  })

  it('refuses a Hessian whose halves differ, naming both elements', async () => {
    const h = randomHessian(5, 30, 7)
    h.data[3 * 5 + 1] += 1
    await expectRefused(() => dampedInverseFactor(h, 0.01, 5, 'layers.0.up'), NumericError, [
      'layers.0.up',
      'not symmetric',
      '(3, 1)',
      '(1, 3)',
    ])
  })

  it('accepts halves that differ by rounding', async () => {
    const h = randomHessian(5, 30, 8)
    h.data[3 * 5 + 1] *= 1 + 1e-6
    await expect(dampedInverseFactor(h, 0.01, 5, 'layer')).resolves.toBeDefined()
  })

  it('refuses a negative diagonal, naming where', async () => {
    const h = randomHessian(4, 30, 9)
    h.data[2 * 4 + 2] = -0.5
    await expectRefused(() => dampedInverseFactor(h, 0.01, 4, 'layers.1'), NumericError, [
      'layers.1',
      '-0.5 at 2',
    ])
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY])(
    'refuses %d in the Hessian, naming where',
    async (value) => {
      const h = randomHessian(4, 30, 10)
      h.data[1 * 4 + 3] = value
      await expectRefused(() => dampedInverseFactor(h, 0.01, 4, 'layers.1'), NumericError, [
        `layers.1: Hessian: found ${value} at row 1, column 3`,
      ])
    },
  )

  it('refuses a Hessian that is not square', async () => {
    await expectRefused(() => dampedInverseFactor(matrix(3, 4), 0.01, 4, 'layers.1'), ShapeError, [
      'layers.1',
      '3 x 4',
    ])
  })
})

describe('requireFit', () => {
  it('accepts a weight and the Hessian of its inputs', async () => {
    expect(() => requireFit(matrix(2, 3), matrix(3, 3), 'layer')).not.toThrow()
  })

  it('refuses a Hessian of another width, naming layer and shapes', async () => {
    await expectRefused(() => requireFit(matrix(2, 3), matrix(2, 2), 'layers.9'), ShapeError, [
      'layers.9',
      '2 x 2',
      '2 x 3',
      '3 x 3',
    ])
    await expectRefused(() => requireFit(matrix(2, 3), matrix(3, 2), 'layers.9'), ShapeError, ['3 x 2'])
  })

  it('refuses NaN in the weight, naming where', async () => {
    const weight = matrix(2, 3)
    weight.data[4] = Number.NaN
    await expectRefused(() => requireFit(weight, matrix(3, 3), 'layers.9'), NumericError, [
      'layers.9: found NaN at row 1, column 1',
    ])
  })
})
