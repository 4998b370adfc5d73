import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { assignNearest, centroidNorms, projectVectors } from '../../src/kernels/reference/assign.js'
import { gaussianMatrix } from '../support/random-matrix.js'

interface Search {
  readonly n: number
  readonly d: number
  readonly k: number
  readonly period: number
  readonly vectors: Float32Array
  readonly metric: Float64Array
  readonly codebook: Float32Array
}

function search({ n, d, k, period, vectors, metric, codebook }: Search) {
  const projected = new Float64Array(n * d)
  const energies = new Float64Array(n)
  const norms = new Float64Array(period * k)
  const assignments = new Uint16Array(n)
  const scores = new Float64Array(n)
  projectVectors(vectors, n, d, metric, period, projected, energies)
  centroidNorms(codebook, k, d, metric, period, norms)
  assignNearest(projected, n, d, codebook, k, norms, period, assignments, scores)
  return { projected, energies, norms, assignments, scores }
}

/** `(x - c)^T M (x - c)` as written. */
function directDistance(of: Search, i: number, j: number): number {
  const { d, vectors, codebook, metric, period } = of
  const m = (i % period) * d * d
  let distance = 0
  for (let a = 0; a < d; a++) {
    for (let b = 0; b < d; b++) {
      const [da, db] = [a, b].map((axis) => vectors[i * d + axis] - codebook[j * d + axis])
      distance += da * metric[m + a * d + b] * db
    }
  }
  return distance
}

/** `period` random metrics `A^T A`, or only their diagonals. */
function randomMetric(period: number, d: number, diagonal: boolean, seed: number): Float64Array {
  const metric = new Float64Array(period * d * d)
  const { data } = gaussianMatrix(period * d, d, seed)
  for (let p = 0; p < period; p++) {
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) {
        if (diagonal && a !== b) continue
        for (let e = 0; e < d; e++) {
          metric[(p * d + a) * d + b] += data[(p * d + e) * d + a] * data[(p * d + e) * d + b]
        }
      }
    }
  }
  return metric
}

const searches = fc
  .record({
    d: fc.integer({ min: 1, max: 5 }),
    k: fc.integer({ min: 1, max: 40 }),
    period: fc.integer({ min: 1, max: 6 }),
    repeats: fc.integer({ min: 1, max: 8 }),
    diagonal: fc.boolean(),
    seed: fc.integer({ min: 0, max: 1e6 }),
  })
  .map(({ d, k, period, repeats, diagonal, seed }): Search => {
    const n = period * repeats
    return {
      n,
      d,
      k,
      period,
      vectors: gaussianMatrix(n, d, seed).data,
      metric: randomMetric(period, d, diagonal, seed + 1),
      codebook: gaussianMatrix(k, d, seed + 2).data,
    }
  })

describe('assignNearest', () => {
  it('finds the centroid that the direct formula finds, for d = 1 to 5, diagonal and full metrics of any period', () => {
    fc.assert(
      fc.property(searches, (of) => {
        const { assignments } = search(of)
        for (let i = 0; i < of.n; i++) {
          const distances = Array.from({ length: of.k }, (_, j) => directDistance(of, i, j))
          const least = Math.min(...distances)
          // two centroids equally near up to rounding are both right
          expect(distances[assignments[i]] - least).toBeLessThanOrEqual(1e-10 * (1 + least))
        }
      }),
      { numRuns: 300 },
    )
  })

  it('scores plus energies are the direct distances', () => {
    fc.assert(
      fc.property(searches, (of) => {
        const { assignments, scores, energies } = search(of)
        for (let i = 0; i < of.n; i++) {
          const distance = directDistance(of, i, assignments[i])
          expect(Math.abs(scores[i] + energies[i] - distance)).toBeLessThanOrEqual(1e-10 * (1 + energies[i]))
        }
      }),
    )
  })

  it.each([1, 2, 3, 4])('takes the lowest index of equally near centroids, d = %d', (d) => {
    const one = gaussianMatrix(1, d, d).data
    const far = one.map((value) => value + 100)
    const codebook = Float32Array.from([...far, ...one, ...one, ...far, ...one])
    const of: Search = {
      n: 2,
      d,
      k: 5,
      period: 1,
      vectors: Float32Array.from([...one, ...far]),
      metric: randomMetric(1, d, false, 7),
      codebook,
    }
    expect([...search(of).assignments]).toEqual([1, 0])
  })

  it('takes the lowest index of two centroids at the same distance to either side', () => {
    const sides = { n: 1, d: 1, k: 3, period: 1, vectors: Float32Array.of(0), metric: Float64Array.of(3) }
    expect(search({ ...sides, codebook: Float32Array.of(5, -2, 2) }).assignments[0]).toBe(1)
    expect(search({ ...sides, codebook: Float32Array.of(5, 2, -2) }).assignments[0]).toBe(1)
  })

  it('reaches the last of 65536 centroids', () => {
    const codebook = Float32Array.from({ length: 65536 }, (_, j) => j)
    const of = { n: 2, d: 1, k: 65536, period: 1, vectors: Float32Array.of(70000, 65534.6), codebook }
    expect([...search({ ...of, metric: Float64Array.of(1) }).assignments]).toEqual([65535, 65535])
  })

  it('under a metric of zero every centroid is as near: index 0, distance 0', () => {
    const { assignments, scores, energies } = search({
      n: 3,
      d: 2,
      k: 4,
      period: 1,
      vectors: gaussianMatrix(3, 2, 1).data,
      metric: new Float64Array(4),
      codebook: gaussianMatrix(4, 2, 2).data,
    })
    expect([...assignments]).toEqual([0, 0, 0])
    for (let i = 0; i < 3; i++) expect(scores[i] + energies[i]).toBe(0)
  })
})
