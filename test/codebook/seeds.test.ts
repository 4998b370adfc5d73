import fc from 'fast-check'
import { Matrix as DenseMatrix } from 'ml-matrix'
import { describe, expect, it } from 'vitest'
import { identityMetric, type Metric, readMetric } from '../../src/codebook/metric.js'
import { type KmeansInit, kmeansInits } from '../../src/codebook/seeds.js'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import { dense, exactInverse } from '../support/float64-algebra.js'
import { gaussianMatrix } from '../support/random-matrix.js'
import { seedsOf as seedsUnder } from './seeding.js'

function seedsOf(init: KmeansInit, vectors: Matrix, k: number, seed = 0, metric?: Metric): Matrix {
  return seedsUnder(init, vectors, k, seed, metric ?? identityMetric(vectors.cols))
}

function row(m: Matrix, i: number): string {
  return m.data.subarray(i * m.cols, (i + 1) * m.cols).join(' ')
}

const rowsOf = (m: Matrix) => Array.from({ length: m.rows }, (_, i) => row(m, i))

/** Which vector each seed is; -1 where it is none. */
function indicesOf(seeds: Matrix, vectors: Matrix): number[] {
  const known = rowsOf(vectors)
  return rowsOf(seeds).map((seed) => known.indexOf(seed))
}

/** Squared Mahalanobis distances to the mean, by the inverse of the covariance. */
function mahalanobisOracle(vectors: Matrix): number[] {
  const x = dense(vectors)
  const centred = x.subRowVector(x.mean('column'))
  const precision = exactInverse(centred.transpose().mmul(centred).div(vectors.rows))
  return centred.mmul(precision).mul(centred).sum('row')
}

describe.each(kmeansInits)('seeds by %s', (init) => {
  it('are vectors, as many as asked for, also when there are fewer vectors', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 30 }),
        fc.nat(1e6),
        (anyDim, n, k, seed) => {
          const vectors = gaussianMatrix(n, init === 'cdf' ? 1 : anyDim, seed)
          expect(indicesOf(seedsOf(init, vectors, k, seed), vectors)).not.toContain(-1)
        },
      ),
    )
  })

  it('are all different when k is the number of vectors', () => {
    const vectors = gaussianMatrix(40, init === 'cdf' ? 1 : 2, 3)
    expect(new Set(indicesOf(seedsOf(init, vectors, 40), vectors)).size).toBe(40)
  })
})

describe('seeds by mahalanobis', () => {
  it.each([1, 2, 4])(
    'are evenly spaced in the order of Mahalanobis distance, from end to end, d = %d',
    (d) => {
      const vectors = gaussianMatrix(101, d, d)
      // correlated and off centre, so that plain distances would give another order
      for (let i = 0; i < vectors.data.length; i++) {
        vectors.data[i] = 5 + 3 * vectors.data[i] + (i % d > 0 ? vectors.data[i - 1] : 0)
      }
      const distances = mahalanobisOracle(vectors)
      const sorted = distances.toSorted((x, y) => x - y)
      const chosen = indicesOf(seedsOf('mahalanobis', vectors, 11), vectors)
      for (let j = 0; j < 11; j++) expect(distances[chosen[j]]).toBeCloseTo(sorted[10 * j], 9)
    },
  )

  it('do not change when the vectors are stretched, turned and moved', () => {
    const vectors = gaussianMatrix(90, 2, 5)
    const turned = matrix(90, 2)
    for (let i = 0; i < 90; i++) {
      const [x, y] = [vectors.data[2 * i], vectors.data[2 * i + 1]]
      turned.data.set([30 * x + 20 * y - 7, 5 * x - 0.5 * y + 3], 2 * i)
    }
    const chosen = indicesOf(seedsOf('mahalanobis', vectors, 10), vectors)
    expect(indicesOf(seedsOf('mahalanobis', turned, 10), turned)).toEqual(chosen)
  })

  it('take the vector nearest to the mean when there is one seed', () => {
    const vectors = gaussianMatrix(50, 3, 6)
    const distances = mahalanobisOracle(vectors)
    const [chosen] = indicesOf(seedsOf('mahalanobis', vectors, 1), vectors)
    expect(distances[chosen]).toBeCloseTo(Math.min(...distances), 9)
  })

  it('survive vectors that lie on a line or are all equal', () => {
    const line = matrix(20, 3)
    for (let i = 0; i < 60; i++) line.data[i] = Math.floor(i / 3) * ((i % 3) + 1)
    const chosen = indicesOf(seedsOf('mahalanobis', line, 5), line)
    expect(chosen).not.toContain(-1)
    expect(new Set(chosen).size).toBe(5)
    const equal = matrix(20, 3, new Float32Array(60).fill(0.1))
    expect(indicesOf(seedsOf('mahalanobis', equal, 5), equal)).toEqual([0, 0, 0, 0, 0])
  })
})

describe('seeds by k-means++', () => {
  it('are different as long as there are different vectors', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3 }), fc.nat(1e6), (d, seed) => {
        const distinct = gaussianMatrix(9, d, seed)
        const vectors = matrix(27, d)
        for (let copy = 0; copy < 3; copy++) vectors.data.set(distinct.data, copy * 9 * d)
        const seeds = rowsOf(seedsOf('kmeans++', vectors, 12, seed))
        expect(new Set(seeds.slice(0, 9)).size).toBe(9)
      }),
    )
  })

  it('are drawn with probability proportional to the distance to the seeds before', () => {
    const vectors = matrix(4, 1, Float32Array.of(0, 1, 3, 4))
    const draws = 20_000
    const counts = new Map<string, number>()
    for (let seed = 0; seed < draws; seed++) {
      const pair = indicesOf(seedsOf('kmeans++', vectors, 2, seed), vectors).join()
      counts.set(pair, (counts.get(pair) ?? 0) + 1)
    }
    // from each vector, the squared distances to the others
    const shares = { '0': [0, 1, 9, 16], '1': [1, 0, 4, 9], '2': [9, 4, 0, 1], '3': [16, 9, 1, 0] }
    for (const [first, distances] of Object.entries(shares)) {
      const total = distances.reduce((sum, distance) => sum + distance)
      for (const [second, distance] of distances.entries()) {
        const probability = distance / total / 4
        const deviation = Math.sqrt(draws * probability * (1 - probability))
        const count = counts.get(`${first},${second}`) ?? 0
        expect(Math.abs(count - draws * probability)).toBeLessThanOrEqual(5 * deviation)
      }
    }
  })

  it('measure distance in the metric: what it does not see is never a reason to be chosen', () => {
    const vectors = matrix(6, 2, Float32Array.of(0, 0, 1e6, 0, -1e6, 0, 5e6, 0, 0, 1, 3, 1))
    const metric = readMetric(matrix(1, 2, Float32Array.of(0, 1)), 6, 2)
    for (let seed = 0; seed < 50; seed++) {
      const seeds = seedsOf('kmeans++', vectors, 2, seed, metric)
      expect(new Set([seeds.data[1], seeds.data[3]])).toEqual(new Set([0, 1]))
    }
  })
})

describe('seeds by cdf', () => {
  it('are the quantiles at the middles of k equal shares', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 20 }),
        fc.boolean(),
        fc.nat(1e6),
        (n, k, rounded, seed) => {
          const vectors = gaussianMatrix(n, 1, seed)
          if (rounded) vectors.data.set(vectors.data.map(Math.round))
          const seeds = seedsOf('cdf', vectors, k).data
          for (const [j, value] of seeds.entries()) {
            // the share is (2 j + 1) / (2 k), kept in whole numbers
            const below = vectors.data.filter((x) => x < value).length
            const upTo = vectors.data.filter((x) => x <= value).length
            expect(2 * k * below).toBeLessThanOrEqual((2 * j + 1) * n)
            expect(2 * k * upTo).toBeGreaterThanOrEqual((2 * j + 1) * n)
          }
        },
      ),
    )
  })
})

describe('the oracle of these tests', () => {
  it('gives d as the mean of squared Mahalanobis distances', () => {
    const distances = mahalanobisOracle(gaussianMatrix(70, 3, 8))
    expect(DenseMatrix.rowVector(distances).mean()).toBeCloseTo(3, 10)
  })
})
