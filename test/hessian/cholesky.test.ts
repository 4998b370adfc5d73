import { Matrix as DenseMatrix } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import { AbortedError, NumericError, ShapeError } from '../../src/common/errors.js'
import { copyMatrix, type Matrix, matrix } from '../../src/common/matrix.js'
import { inverseFactorInPlace } from '../../src/hessian/cholesky.js'
import { countAllocatedBy } from '../support/count-allocated.js'
import { dense, exactInverse, inverseFactorOracle, largestElement } from '../support/float64-algebra.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'
import { expectClose, rejectionOf } from '../support/tolerance.js'

/** A random Hessian, damped so that float32 can tell it from a singular one. */
function dampedHessian(n: number, seed: number): Matrix {
  const h = randomHessian(n, 3 * n + 5, seed)
  for (let i = 0; i < n; i++) h.data[i * n + i] += 0.1
  return h
}

async function factorOf(h: Matrix): Promise<Matrix> {
  const u = copyMatrix(h)
  await inverseFactorInPlace(u)
  return u
}

// the factorization works in blocks of 64
const sizes = [1, 2, 3, 17, 63, 64, 65, 127, 128, 129, 130]

describe('inverseFactorInPlace', () => {
  it.each(sizes)('gives an upper triangle with a positive diagonal, zeros below it, at n = %d', async (n) => {
    const { data } = await factorOf(dampedHessian(n, n))
    for (let i = 0; i < n; i++) {
      expect(data[i * n + i]).toBeGreaterThan(0)
      expect(data.subarray(i * n, i * n + i).every((value) => value === 0)).toBe(true)
    }
  })

  it.each(sizes)('U^T U is the inverse that ml-matrix finds, at n = %d', async (n) => {
    const h = dampedHessian(n, n + 1)
    const u = dense(await factorOf(h))
    const expected = exactInverse(dense(h))
    const error = largestElement(DenseMatrix.sub(u.transpose().mmul(u), expected))
    expect(error).toBeLessThan(1e-5 * largestElement(expected))
  })

  it.each(sizes)('U H U^T is the identity, at n = %d', async (n) => {
    const h = dampedHessian(n, n + 2)
    const u = dense(await factorOf(h))
    const identity = u.mmul(dense(h)).mmul(u.transpose())
    expect(largestElement(identity.sub(DenseMatrix.eye(n)))).toBeLessThan(2e-5)
  })

  it('agrees with a float64 factorization at n = 300', async () => {
    const h = dampedHessian(300, 5)
    const expected = inverseFactorOracle(dense(h))
    expectClose((await factorOf(h)).data, expected.to1DArray(), 2e-5 * largestElement(expected))
  })

  it('reads the upper triangle only', async () => {
    const h = dampedHessian(130, 6)
    const halved = copyMatrix(h)
    for (let i = 0; i < 130; i++) halved.data.fill(Number.NaN, i * 130, i * 130 + i)
    expect((await factorOf(halved)).data).toEqual((await factorOf(h)).data)
  })

  it('inverts a diagonal exactly', async () => {
    const h = matrix(70, 70)
    for (let i = 0; i < 70; i++) h.data[i * 70 + i] = 4 ** ((i % 5) - 2)
    const u = await factorOf(h)
    const expected = matrix(70, 70)
    for (let i = 0; i < 70; i++) expected.data[i * 70 + i] = 2 ** (2 - (i % 5))
    expect(u.data).toEqual(expected.data)
  })

  it('works in place: beside the matrix it allocates two panels of 64 rows and one square', async () => {
    const n = 512
    const h = dampedHessian(64, 7)
    const large = matrix(n, n)
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        if (i >> 6 === j >> 6) large.data[i * n + j] = h.data[(i & 63) * 64 + (j & 63)]
      }
    }
    const { data } = large
    const allocated = await countAllocatedBy(() => inverseFactorInPlace(large))
    expect(allocated).toEqual({ float32: 2 * 64 * n + 64 * 64, float64: 64 })
    expect(large.data).toBe(data)
  })

  it.each([3, 64, 65, 200])(
    'refuses a singular matrix of size %d, naming a column and what to do',
    async (n) => {
      const x = gaussianMatrix(1, n, n)
      const h = matrix(n, n)
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) h.data[i * n + j] = x.data[i] * x.data[j]
      const error = await rejectionOf(() => inverseFactorInPlace(h))
      expect(error).toBeInstanceOf(NumericError)
      expect((error as Error).message).toMatch(/not positive definite: the pivot of column \d+ .* damping/)
    },
  )

  it('stops between two blocks of columns when its pause throws', async () => {
    let pauses = 0
    const stop = async () => {
      if (++pauses === 3) throw new AbortedError()
    }
    expect(await rejectionOf(() => inverseFactorInPlace(dampedHessian(300, 8), stop))).toBeInstanceOf(
      AbortedError,
    )
    expect(pauses).toBe(3)
  })

  it('refuses an indefinite matrix, a negative diagonal, zero and NaN', async () => {
    const indefinite = [
      [1, 2, 2, 1],
      [-1, 0, 0, 1],
      [0, 0, 0, 0],
      [1, Number.NaN, Number.NaN, 1],
      [Number.NaN, 0, 0, 1],
    ]
    for (const values of indefinite) {
      const h = matrix(2, 2, Float32Array.from(values))
      expect(await rejectionOf(() => inverseFactorInPlace(h))).toBeInstanceOf(NumericError)
    }
  })

  it('refuses a matrix that is not square', async () => {
    expect(await rejectionOf(() => inverseFactorInPlace(matrix(2, 3)))).toBeInstanceOf(ShapeError)
  })
})
