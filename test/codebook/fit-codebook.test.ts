import fc from 'fast-check'
import { kmeans } from 'ml-kmeans'
import { beforeAll, describe, expect, it } from 'vitest'
import { type CodebookOptions, fitCodebook } from '../../src/codebook/fit-codebook.js'
import { identityMetric } from '../../src/codebook/metric.js'
import { type KmeansInit, kmeansInits } from '../../src/codebook/seeds.js'
import { NumericError, OptionError, ShapeError } from '../../src/common/errors.js'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import { randomGenerator } from '../../src/common/random.js'
import { useKernels } from '../../src/kernels/kernels.js'
import { gaussianMatrix } from '../support/random-matrix.js'
import { thrownBy } from '../support/tolerance.js'
import {
  bestLoss,
  centroid,
  distance,
  energyOf,
  metricAt,
  type Problem,
  problems,
  randomMetric,
} from './problems.js'
import { seedsOf } from './seeding.js'

/**
 * By kernels, the share of the energy `sum x^T M x` that a loss may be off by. reference: a float64 difference of energies
 * (1e-16 each), and centroids are float32 next to the minimum, where the loss is flat (2^-48). baseline: a search in
 * float32 may take a centroid that is farther by some 2^-22 of the energy, and distances are float32.
 */
const implementations = [
  { name: 'reference', rounding: 1e-12 },
  { name: 'baseline', rounding: 2 ** -20 },
] as const

const fits = fc.record({
  problem: problems,
  k: fc.integer({ min: 1, max: 20 }),
  init: fc.constantFrom<KmeansInit>('mahalanobis', 'kmeans++'),
  seed: fc.nat(1000),
})

function column(values: readonly number[]): Matrix {
  return matrix(values.length, 1, Float32Array.from(values))
}

describe.each(implementations)('fitCodebook with $name kernels', ({ name, rounding }) => {
  beforeAll(() => {
    useKernels(name)
  })

  it('never lets the loss rise, for any data, metric and seeds', () => {
    fc.assert(
      fc.property(fits, ({ problem, k, init, seed }) => {
        const { losses, loss } = fitCodebook(problem.vectors, { metric: problem.metric, k, init, seed })
        const tolerance = rounding * energyOf(problem)
        for (let step = 1; step < losses.length; step++) {
          expect(losses[step]).toBeLessThanOrEqual(losses[step - 1] + tolerance)
        }
        expect(loss).toBe(losses[losses.length - 1])
        expect(losses.every(Number.isFinite)).toBe(true)
      }),
      { numRuns: 400 },
    )
  })

  it('puts every vector at its nearest centroid, and the loss is the sum of those distances', () => {
    fc.assert(
      fc.property(fits, fc.integer({ min: 0, max: 5 }), ({ problem, k, init, seed }, iterations) => {
        const { vectors, metric } = problem
        const fit = fitCodebook(vectors, { metric, k, init, seed, iterations })
        const tolerance = rounding * energyOf(problem)
        let loss = 0
        for (let i = 0; i < vectors.rows; i++) {
          expect(fit.assignments[i]).toBeLessThan(k)
          loss += distance(problem, i, centroid(fit.codebook, fit.assignments[i]))
        }
        expect(Math.abs(loss - bestLoss(problem, fit.codebook))).toBeLessThanOrEqual(tolerance)
        expect(Math.abs(fit.loss - loss)).toBeLessThanOrEqual(tolerance)
        expect(fit.losses.length).toBeLessThanOrEqual(iterations + 1)
      }),
    )
  })

  it('ends, once assignments settle, with centroids that solve the normal equations of their vectors', () => {
    fc.assert(
      fc.property(fits, ({ problem, k, init, seed }) => {
        const { vectors, metric } = problem
        const { codebook, assignments, losses } = fitCodebook(vectors, {
          metric,
          k,
          init,
          seed,
          iterations: 500,
        })
        if (losses.length === 501) {
          // vectors that lie on several centroids up to rounding may change sides for ever
          expect(losses[400] - losses[500]).toBeLessThanOrEqual(rounding * energyOf(problem))
          return
        }
        const [previous, last] = losses.subarray(-2)
        if (last >= previous) {
          // the end by a loss that no longer falls: rounding may have left vectors on the other side
          expect(last - previous).toBeLessThanOrEqual(rounding * energyOf(problem))
          return
        }
        for (let j = 0; j < k; j++) {
          const members = [...assignments.keys()].filter((i) => assignments[i] === j)
          for (let a = 0; a < vectors.cols; a++) {
            let residual = 0
            let size = 0
            for (const i of members) {
              for (let b = 0; b < vectors.cols; b++) {
                const m = metricAt(problem, i, a, b)
                const [x, c] = [vectors.data[i * vectors.cols + b], codebook.data[j * vectors.cols + b]]
                residual += m * (x - c)
                size += Math.abs(m * x) + Math.abs(m * c)
              }
            }
            expect(Math.abs(residual)).toBeLessThanOrEqual(1e-6 * size)
          }
        }
      }),
      { numRuns: 200 },
    )
  })

  it('ends where ml-kmeans ends from the same seeds on unweighted data', () => {
    for (let seed = 0; seed < 20; seed++) {
      const d = 1 + (seed % 4)
      const vectors = gaussianMatrix(150, d, seed)
      const k = 3 + (seed % 6)
      const seeds = seedsOf('kmeans++', vectors, k, seed, identityMetric(d))
      const rows = (m: Matrix) => Array.from({ length: m.rows }, (_, i) => [...centroid(m, i)])
      const theirs = kmeans(rows(vectors), k, {
        initialization: rows(seeds),
        maxIterations: 500,
        tolerance: 0,
      })
      const theirLoss = bestLoss({ vectors }, matrix(k, d, Float32Array.from(theirs.centroids.flat())))
      const ours = fitCodebook(vectors, { k, init: 'kmeans++', seed, iterations: 500 })
      expect(Math.abs(ours.loss / theirLoss - 1)).toBeLessThan(1e-6)
    }
  })

  it('gives empty clusters the worst-fitted vectors: far points behind a crowd of equal ones are reached', () => {
    // 90 zeros take all evenly spaced seeds but the last two, so that clusters start out empty
    const values = [...new Array<number>(90).fill(0), 10, 20, 30, 40, 50]
    const { loss, assignments, losses } = fitCodebook(column(values), { k: 6, init: 'mahalanobis' })
    expect(losses[0]).toBeGreaterThan(100)
    expect(loss).toBe(0)
    expect(new Set(assignments).size).toBe(6)
  })

  it('leaves no cluster empty when it converges and there are vectors enough', () => {
    for (let seed = 0; seed < 30; seed++) {
      const vectors = gaussianMatrix(60, 2, seed)
      // a crowd of equal vectors draws several seeds at once
      vectors.data.fill(0, 0, 60)
      const { assignments } = fitCodebook(vectors, { k: 25, init: 'mahalanobis', iterations: 1000 })
      expect(new Set(assignments).size).toBe(25)
    }
  })

  it('fits fewer distinct vectors than centroids without loss, whatever the seeds and the metric', () => {
    fc.assert(
      fc.property(fits, ({ problem, init, seed }) => {
        const { vectors, metric } = problem
        const { loss, codebook } = fitCodebook(vectors, { metric, k: vectors.rows + 3, init, seed })
        expect(loss).toBeLessThanOrEqual(rounding * energyOf(problem))
        expect(codebook.data.every(Number.isFinite)).toBe(true)
      }),
    )
  })

  it('fits a single vector, equal vectors and all zeros without loss', () => {
    for (const init of ['mahalanobis', 'kmeans++'] as const) {
      for (const value of [0, -3.25, 1e30, 1e-30]) {
        for (const n of [1, 7]) {
          const vectors = matrix(n, 2, new Float32Array(2 * n).fill(value))
          const { loss, codebook, assignments } = fitCodebook(vectors, { k: 4, init })
          expect(loss).toBe(0)
          for (const index of assignments) {
            expect([...centroid(codebook, index)]).toEqual([Math.fround(value), Math.fround(value)])
          }
        }
      }
    }
  })

  it('survives metrics that are zero for a whole cluster', () => {
    const { loss, codebook } = fitCodebook(gaussianMatrix(20, 2, 1), { k: 3, metric: matrix(1, 4) })
    expect(loss).toBe(0)
    expect(codebook.data.every(Number.isFinite)).toBe(true)
  })

  it('weighs vectors by their metric: a centroid is their weighted mean', () => {
    const { codebook } = fitCodebook(column([0, 10]), { k: 1, metric: column([3, 1]) })
    expect([...codebook.data]).toEqual([2.5])
  })

  it('gives the same codebook for the same seed, and k-means++ another for another seed', () => {
    const vectors = gaussianMatrix(200, 2, 3)
    const withSeed = (seed: number) => fitCodebook(vectors, { k: 16, init: 'kmeans++', seed })
    expect(withSeed(5)).toEqual(withSeed(5))
    expect(withSeed(5).codebook.data).not.toEqual(withSeed(6).codebook.data)
  })

  it('leaves vectors and metric untouched', () => {
    const vectors = gaussianMatrix(30, 2, 4)
    const metric = randomMetric('full', 3, 2, 5)
    const [vectorsBefore, metricBefore] = [vectors.data.slice(), metric?.data.slice()]
    fitCodebook(vectors, { k: 4, metric })
    expect(vectors.data).toEqual(vectorsBefore)
    expect(metric?.data).toEqual(metricBefore)
  })
})

/** The least loss of any split of weighted numbers into k clusters: optimal clusters are stretches of the sorted ones. */
function leastLoss(values: readonly number[], weights: readonly number[], k: number): number {
  const order = [...values.keys()].sort((i, j) => values[i] - values[j])
  const stretchLoss = (first: number, last: number) => {
    const members = order.slice(first, last)
    const weight = members.reduce((sum, i) => sum + weights[i], 0)
    if (weight === 0) return 0
    const mean = members.reduce((sum, i) => sum + weights[i] * values[i], 0) / weight
    return members.reduce((sum, i) => sum + weights[i] * (values[i] - mean) ** 2, 0)
  }
  const search = (first: number, clusters: number): number => {
    if (clusters === 1) return stretchLoss(first, order.length)
    let least = Number.POSITIVE_INFINITY
    for (let last = first; last <= order.length; last++) {
      least = Math.min(least, stretchLoss(first, last) + search(last, clusters - 1))
    }
    return least
  }
  return search(0, k)
}

describe.each(implementations)(
  'fitCodebook in one dimension with $name kernels, against exhaustive search',
  ({ name, rounding }) => {
    beforeAll(() => {
      useKernels(name)
    })

    const trials = Array.from({ length: 40 }, (_, trial): { problem: Problem; k: number; least: number } => {
      const random = randomGenerator(trial)
      const n = 4 + (trial % 7)
      const k = 2 + (trial % 3)
      const vectors = gaussianMatrix(n, 1, trial + 100)
      const weights = Float32Array.from({ length: n }, () => (trial % 2 === 0 ? 1 : 0.1 + random()))
      const least = leastLoss([...vectors.data], [...weights], k)
      return { problem: { vectors, metric: matrix(n, 1, weights) }, k, least }
    })

    it('never falls below the least loss possible', () => {
      for (const { problem, k, least } of trials) {
        for (const init of kmeansInits) {
          const { loss } = fitCodebook(problem.vectors, { k, init, metric: problem.metric })
          expect(loss).toBeGreaterThanOrEqual(least - rounding * energyOf(problem))
        }
      }
    })

    it('reaches the least loss with restarts', () => {
      for (const { problem, k, least } of trials) {
        const losses = Array.from({ length: 60 }, (_, seed) => {
          return fitCodebook(problem.vectors, { k, init: 'kmeans++', metric: problem.metric, seed }).loss
        })
        expect(Math.min(...losses) - least).toBeLessThan(rounding * energyOf(problem))
      }
    })
  },
)

describe('fitCodebook refuses', () => {
  const vectors = gaussianMatrix(6, 2, 1)

  it.each<[string, CodebookOptions]>([
    ['k', { k: 0 }],
    ['k', { k: 65537 }],
    ['k', { k: 2.5 }],
    ['k', { k: Number.NaN }],
    ['iterations', { k: 2, iterations: -1 }],
    ['iterations', { k: 2, iterations: 0.5 }],
    ['seed', { k: 2, seed: 1.5 }],
    ['seed', { k: 2, seed: -1 }],
    ['init', { k: 2, init: 'random' as KmeansInit }],
    ['init', { k: 2, init: 'cdf' }],
  ])('a bad %s by name: %o', (option, options) => {
    const error = thrownBy(() => fitCodebook(vectors, options))
    expect(error).toBeInstanceOf(OptionError)
    expect((error as OptionError).option).toBe(option)
    expect((error as OptionError).message).toMatch(new RegExp(`^${option}: .*(got|expected)`))
  })

  it('vectors with NaN or infinity, naming where', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const damaged = gaussianMatrix(6, 2, 1)
      damaged.data[7] = value
      const error = thrownBy(() => fitCodebook(damaged, { k: 2 }))
      expect(error).toBeInstanceOf(NumericError)
      expect((error as Error).message).toContain(`vectors: found ${value} at row 3, column 1`)
    }
  })

  it('a metric whose shape does not fit the vectors', () => {
    for (const [rows, cols] of [
      [4, 2],
      [7, 2],
      [6, 1],
      [6, 3],
    ]) {
      const error = thrownBy(() => fitCodebook(vectors, { k: 2, metric: matrix(rows, cols) }))
      expect(error).toBeInstanceOf(ShapeError)
      expect((error as Error).message).toMatch(/metric has \d/)
    }
  })

  it('a metric with NaN, infinity or a negative diagonal, naming which and where', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, -1]) {
      const metric = matrix(3, 4, new Float32Array(12).fill(0))
      metric.data[2 * 4 + 3] = value
      const error = thrownBy(() => fitCodebook(vectors, { k: 2, metric }))
      expect(error).toBeInstanceOf(NumericError)
      expect((error as Error).message).toContain(`metric 2: found ${value} at (1, 1)`)
    }
  })
})
