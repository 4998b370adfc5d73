import fc from 'fast-check'
import { Matrix as DenseMatrix, solve } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import { copyMatrix, type Matrix, matrix } from '../../src/common/matrix.js'
import { randomGenerator } from '../../src/common/random.js'
import { flushErrors, solveError, spreadError } from '../../src/hessian/propagation.js'
import { dense, inverseFactorOracle, largestElement } from '../support/float64-algebra.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'
import { expectClose } from '../support/tolerance.js'

interface Problem {
  readonly hessian: DenseMatrix
  readonly factor: Matrix
  readonly weight: Matrix
}

function problemOf(rows: number, n: number, seed: number): Problem {
  const hessian = dense(randomHessian(n, 3 * n + 10, seed)).add(DenseMatrix.eye(n).mul(0.05))
  const factor = matrix(n, n, Float32Array.from(inverseFactorOracle(hessian).to1DArray()))
  return { hessian, factor, weight: gaussianMatrix(rows, n, seed + 1) }
}

const range = (first: number, last: number) => Array.from({ length: last - first }, (_, i) => first + i)

/** A coarse grid: any quantizer will do, the identities hold for all. */
const roundToGrid = (weight: number) => Math.round(2 * weight) / 2

interface Quantized {
  /** Weights at the moment each was quantized; columns past `columns` as they stand then. */
  readonly work: Matrix
  readonly quantized: Matrix
}

/** Quantizes the first `columns` columns by vectors of `d`, error feedback lazily in blocks. */
function quantizeInBlocks({ factor, weight }: Problem, d: number, block: number, columns: number): Quantized {
  const work = copyMatrix(weight)
  const quantized = matrix(weight.rows, weight.cols)
  for (let start = 0; start < columns; start += block) {
    const end = Math.min(start + block, columns)
    const errors = new Float32Array(weight.rows * (end - start))
    for (let r = 0; r < weight.rows; r++) {
      for (let column = start; column < end; column += d) {
        const at = r * weight.cols + column
        const error = new Float64Array(d)
        for (let a = 0; a < d; a++) {
          quantized.data[at + a] = roundToGrid(work.data[at + a])
          error[a] = work.data[at + a] - quantized.data[at + a]
        }
        solveError(error, d, factor, column)
        spreadError(work.data, r * weight.cols, error, d, factor, column, end)
        errors.set(error, r * (end - start) + column - start)
      }
    }
    flushErrors(work, errors, factor, start, end)
  }
  return { work, quantized }
}

/**
 * The weights of columns `fixed..n` that minimise `(w - q) H (w - q)^T` over each row when the columns before have
 * their quantized values: the normal equations, solved at once.
 */
function bestRest({ hessian, weight }: Problem, quantized: Matrix, fixed: number): DenseMatrix {
  const n = weight.cols
  const past = range(0, fixed)
  const rest = range(fixed, n)
  const rows = range(0, weight.rows)
  const w = dense(weight)
  const lost = DenseMatrix.sub(w.selection(rows, past), dense(quantized).selection(rows, past))
  const pull = hessian.selection(rest, past).mmul(lost.transpose())
  return DenseMatrix.add(w.selection(rows, rest), solve(hessian.selection(rest, rest), pull).transpose())
}

describe('solveError', () => {
  it('is the row times the inverse of the block of U, as ml-matrix solves it', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 0, max: 8 }),
        fc.nat(1e6),
        (d, column, seed) => {
          const { factor } = problemOf(1, 12, seed)
          const lost = Float64Array.from(gaussianMatrix(1, d, seed + 3).data)
          const block = dense(factor).subMatrix(column, column + d - 1, column, column + d - 1)
          const expected = solve(block.transpose(), DenseMatrix.columnVector(lost)).to1DArray()
          const error = lost.slice()
          solveError(error, d, factor, column)
          expectClose(error, expected, 1e-9 * Math.max(1, ...expected.map(Math.abs)))
        },
      ),
    )
  })
})

describe('spreadError', () => {
  it('takes E U from the columns after the vector up to the end of the block, and from nothing else', () => {
    const { factor } = problemOf(1, 10, 1)
    const work = gaussianMatrix(3, 10, 2)
    const expected = Float64Array.from(work.data)
    const error = Float64Array.of(0.5, -2)
    for (let j = 5; j < 8; j++) {
      expected[10 + j] -= 0.5 * factor.data[3 * 10 + j] - 2 * factor.data[4 * 10 + j]
    }
    spreadError(work.data, 10, error, 2, factor, 3, 8)
    expectClose(work.data, expected, 1e-6)
    expect([...error]).toEqual([0.5, -2])
  })
})

describe('flushErrors', () => {
  it('takes the product of the errors and U from all later columns, and from nothing else', () => {
    const { factor } = problemOf(1, 11, 3)
    const work = gaussianMatrix(4, 11, 4)
    const errors = gaussianMatrix(4, 3, 5)
    const product = dense(errors).mmul(dense(factor).subMatrix(2, 4, 0, 10))
    const expected = Float64Array.from(work.data, (value, i) =>
      i % 11 >= 5 ? value - product.get(Math.floor(i / 11), i % 11) : value,
    )
    flushErrors(work, errors.data, factor, 2, 5)
    expectClose(work.data, expected, 1e-6 * (1 + largestElement(product)))
  })

  it('does nothing after the last column', () => {
    const { factor } = problemOf(1, 4, 6)
    const work = gaussianMatrix(2, 4, 7)
    const before = work.data.slice()
    flushErrors(work, gaussianMatrix(2, 2, 8).data, factor, 2, 4)
    expect(work.data).toEqual(before)
  })
})

describe('error feedback in blocks', () => {
  it('equals the feedback of every vector to all later columns at once', () => {
    for (const d of [1, 2, 4]) {
      const problem = problemOf(5, 24, 10 + d)
      const { factor, weight } = problem
      const u = dense(factor)
      const atOnce = dense(weight)
      for (let column = 0; column < 24; column += d) {
        const last = column + d - 1
        const now = atOnce.subMatrix(0, 4, column, last)
        const lost = DenseMatrix.sub(now, now.clone().apply(roundAt))
        const e = solve(u.subMatrix(column, last, column, last).transpose(), lost.transpose()).transpose()
        if (last < 23) {
          const later = atOnce.subMatrix(0, 4, last + 1, 23)
          atOnce.setSubMatrix(later.sub(e.mmul(u.subMatrix(column, last, last + 1, 23))), 0, last + 1)
        }
      }
      for (const block of [4, 8, 24]) {
        const { work } = quantizeInBlocks(problem, d, block, 24)
        expectClose(work.data, atOnce.to1DArray(), 1e-4)
      }
    }
  })

  it('is the optimal compensation: after any number of columns the rest minimises the loss, by least squares', () => {
    const random = randomGenerator(20)
    for (let trial = 0; trial < 20; trial++) {
      const d = [1, 2, 4][trial % 3]
      const n = d * (2 + Math.floor(random() * 8))
      const problem = problemOf(3, n, 100 + trial)
      const fixed = d * (1 + Math.floor(random() * (n / d - 1)))
      const { work, quantized } = quantizeInBlocks(problem, d, 2 * d, fixed)
      const expected = bestRest(problem, quantized, fixed)
      const actual = dense(work).selection(range(0, 3), range(fixed, n))
      expect(largestElement(DenseMatrix.sub(actual, expected))).toBeLessThan(
        1e-4 * (1 + largestElement(expected)),
      )
    }
  })

  it('for a single column: no other move of the remaining weights loses less', () => {
    const problem = problemOf(1, 8, 30)
    const { hessian, weight } = problem
    const { work, quantized } = quantizeInBlocks(problem, 1, 1, 1)
    const lossOf = (rest: number[]) => {
      const change = DenseMatrix.rowVector([quantized.data[0], ...rest]).sub(dense(weight))
      return change.mmul(hessian).mmul(change.transpose()).get(0, 0)
    }
    const compensated = lossOf([...work.data.slice(1)])
    expect(compensated).toBeLessThan(lossOf([...weight.data.slice(1)]))
    const random = randomGenerator(31)
    for (let trial = 0; trial < 500; trial++) {
      const size = 10 ** (-4 * random())
      const moved = [...work.data.slice(1)].map((value) => value + size * (random() - 0.5))
      expect(lossOf(moved)).toBeGreaterThan(compensated - 1e-9)
    }
    // H^-1 gives the loss in closed form: (w - q)^2 / [H^-1]_00, and U_00^2 = [H^-1]_00
    const lost = weight.data[0] - quantized.data[0]
    expect(compensated).toBeCloseTo((lost / problem.factor.data[0]) ** 2, 6)
  })
})

function roundAt(this: DenseMatrix, row: number, column: number): void {
  this.set(row, column, roundToGrid(this.get(row, column)))
}
