import fc from 'fast-check'
import { Matrix as DenseMatrix, pseudoInverse, solve } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import { solveSymmetric } from '../../src/codebook/small-solve.js'
import { dense } from '../support/float64-algebra.js'
import { gaussianMatrix } from '../support/random-matrix.js'
import { expectClose } from '../support/tolerance.js'

/** `A^T A` of a rank x d matrix: positive definite when rank is d or more. */
function gramOf(rank: number, d: number, seed: number): DenseMatrix {
  const a = dense(gaussianMatrix(rank, d, seed))
  return a.transpose().mmul(a)
}

function solved(a: DenseMatrix, b: DenseMatrix): Float64Array {
  const d = a.rows
  const x = new Float64Array(d)
  solveSymmetric(Float64Array.from(a.to1DArray()), 0, Float64Array.from(b.to1DArray()), 0, d, x)
  return x
}

describe('solveSymmetric', () => {
  it('solves a positive definite system as ml-matrix does', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.nat(1e6), (d, seed) => {
        const a = gramOf(d + 2, d, seed).add(DenseMatrix.eye(d).mul(0.01))
        const b = dense(gaussianMatrix(d, 1, seed + 1))
        const expected = solve(a, b).to1DArray()
        expectClose(solved(a, b), expected, 1e-9 * Math.max(1, ...expected.map(Math.abs)))
      }),
    )
  })

  it('gives the shortest least-squares solution of a singular system, as the pseudoinverse does', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5 }), fc.nat(100), fc.nat(1e6), (d, pick, seed) => {
        // whole numbers, so that the system is exactly singular
        const generators = dense(gaussianMatrix(1 + (pick % (d - 1)), d, seed))
          .mul(3)
          .round()
        const a = generators.transpose().mmul(generators)
        const b = a.mmul(dense(gaussianMatrix(d, 1, seed + 1)))
        const expected = pseudoInverse(a, 1e-9).mmul(b).to1DArray()
        expectClose(solved(a, b), expected, 1e-7 * Math.max(1, ...expected.map(Math.abs)))
      }),
    )
  })

  it('gives zero for the zero matrix', () => {
    expect([...solved(DenseMatrix.zeros(3, 3), DenseMatrix.ones(3, 1))]).toEqual([0, 0, 0])
  })

  it('does not depend on the size of the numbers', () => {
    const a = gramOf(4, 3, 1)
    const b = dense(gaussianMatrix(3, 1, 2))
    const expected = solved(a, b)
    for (const size of [2 ** -100, 2 ** 100]) {
      expectClose(solved(DenseMatrix.mul(a, size), DenseMatrix.mul(b, size)), expected, 1e-12)
    }
    for (let seed = 0; seed < 20; seed++) {
      const flat = gramOf(1, 2, seed)
      const column = flat.mmul(DenseMatrix.ones(2, 1))
      const shortest = solved(flat, column)
      for (const size of [1e-30, 1e30]) {
        expectClose(solved(DenseMatrix.mul(flat, size), DenseMatrix.mul(column, size)), shortest, 1e-6)
      }
    }
  })

  it('reads A and b at their offsets and leaves them as they are', () => {
    const a = Float64Array.of(9, 9, 2, 1, 1, 3, 9)
    const b = Float64Array.of(9, 4, 7, 9)
    const [aBefore, bBefore] = [a.slice(), b.slice()]
    const x = new Float64Array(2)
    solveSymmetric(a, 2, b, 1, 2, x)
    expectClose(x, [1, 2], 1e-14)
    expect(a).toEqual(aBefore)
    expect(b).toEqual(bBefore)
  })
})
