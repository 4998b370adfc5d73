import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import type { Clustering, ClusterProblem } from '../../src/kernels/contract.js'
import type { ClusterSearch } from '../../src/kernels/wasm/clustering/cluster-tree.js'
import { clusterKernels } from '../../src/kernels/wasm/clustering/clustering.js'
import { createPool } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, type KernelBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'

const builds: KernelBuild[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']

interface Shape {
  readonly d: 2 | 4
  readonly k: number
  readonly period: number
  readonly rows: number
  /** Vectors of the last row. */
  readonly rest: number
  readonly groups: number
  readonly metric: 'full' | 'diagonal' | 'singular' | 'stiff' | 'zero'
  readonly values: 'normal' | 'heavy' | 'lattice' | 'far'
  readonly isWeighted: boolean
  /** Whether seeds are drawn by distance. */
  readonly isDrawn: boolean
  readonly seed: number
}

const shapes: fc.Arbitrary<Shape> = fc.record({
  d: fc.constantFrom(2, 4),
  k: fc.oneof(fc.integer({ min: 1, max: 80 }), fc.constantFrom(256, 257, 600, 1000)),
  period: fc.integer({ min: 1, max: 12 }),
  rows: fc.integer({ min: 1, max: 40 }),
  rest: fc.nat(11),
  groups: fc.integer({ min: 1, max: 3 }),
  metric: fc.constantFrom('full', 'diagonal', 'singular', 'stiff', 'zero'),
  values: fc.constantFrom('normal', 'heavy', 'lattice', 'far'),
  isWeighted: fc.boolean(),
  isDrawn: fc.boolean(),
  seed: fc.nat(1e6),
})

/** Metrics of several kinds: `stiff` ones see one direction a million times as well as the others. */
function metricsOf({ d, period, metric }: Shape, random: () => number): Float64Array {
  const metrics = new Float64Array(period * d * d)
  for (let p = 0; p < period; p++) {
    const size = 4 ** Math.floor(8 * random())
    const roots = metric === 'singular' ? 1 : d + 1
    for (let e = 0; e < roots; e++) {
      const root = Float64Array.from({ length: d }, () => randomNormal(random))
      const share = metric === 'stiff' && e > 0 ? 1e-6 : 1
      for (let a = 0; a < d; a++) {
        for (let b = 0; b < d; b++) {
          if (metric === 'zero' && p % 2 === 0) continue
          if (metric !== 'diagonal' || a === b)
            metrics[(p * d + a) * d + b] += size * share * root[a] * root[b]
        }
      }
    }
  }
  return metrics
}

/** `lattice`: few distinct values, so that many centroids are equal or equally near; `far`: all far from zero. */
function drawValue(values: Shape['values'], random: () => number): number {
  const value = randomNormal(random)
  if (values === 'heavy') return value / (0.01 + random()) ** 2
  if (values === 'lattice') return Math.round(2 * value) / 2
  return values === 'far' ? 1000 + value : value
}

function problemOf(shape: Shape): ClusterProblem {
  const random = randomGenerator(shape.seed)
  const { d, k, period, rows, rest, groups, values, isWeighted } = shape
  const n = rows * period + (rest % period)
  return {
    ...{ d, k, period, metric: metricsOf(shape, random) },
    groups: Array.from({ length: groups }, () =>
      Float32Array.from({ length: n * d }, () => drawValue(values, random)),
    ),
    ...(isWeighted && {
      weights: Array.from({ length: groups }, () =>
        Float32Array.from({ length: n }, () => 2 ** (-20 * random())),
      ),
    }),
  }
}

/** Seeds that are vectors, or lie between and beyond them. */
function placeSeeds(clustering: Clustering, { d, k, groups }: ClusterProblem, random: () => number): void {
  for (const [g, vectors] of groups.entries()) {
    const pick = () => Math.floor((random() * vectors.length) / d)
    for (let j = 0; j < k; j++) {
      if (random() < 0.7) clustering.placeSeed(g, j, pick())
      else {
        const [one, other, share] = [pick() * d, pick() * d, 3 * random() - 1]
        const between = Array.from({ length: d }, (_, a) => {
          return vectors[one + a] + share * (vectors[other + a] - vectors[one + a])
        })
        clustering.setCentroid(g, j, between)
      }
    }
  }
}

/** Everything that drawn seeds, or others, and some steps of k-means leave behind. */
function stepsOf(clustering: Clustering, problem: ClusterProblem, { seed, isDrawn }: Shape, count: number) {
  const { k, groups } = problem
  const random = randomGenerator(seed)
  placeSeeds(clustering, problem, random)
  if (isDrawn) for (let j = 1; j < k; j++) clustering.drawSeeds(j, Float64Array.from(groups, random))
  const steps = []
  for (let step = 0; step < count; step++) {
    clustering.assign()
    steps.push({
      losses: clustering.losses.slice(),
      changed: clustering.changed.slice(),
      groups: groups.map((_, g) => [clustering.assignments(g).slice(), clustering.distances(g)]),
    })
    clustering.move(true)
  }
  return steps
}

describe.each(builds)('the search of a tree, %s kernels', (build) => {
  const run = (shape: Shape, search: ClusterSearch, threads: number, steps: number) => {
    const problem = problemOf(shape)
    pool.threads = threads
    const clustering = clusterKernels(pool, search).openClustering(problem)
    try {
      return stepsOf(clustering, problem, shape, steps)
    } finally {
      clustering.close()
    }
  }
  const pool = createPool(startRuntime(build), 1)

  it('finds the bits that going through all centroids finds, for metrics and vectors of all kinds', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        expect(run(shape, 'tree', 1, 3)).toEqual(run(shape, 'all', 1, 3))
      }),
      { numRuns: 300 },
    )
  })

  it('finds them for codebooks of every number of levels', () => {
    for (const [d, k, rows] of [
      [2, 600, 100],
      [4, 3000, 3000],
      [2, 9001, 1200],
      [4, 40000, 700],
    ] as const) {
      const shape: Shape = {
        ...{ d, k, period: 8, rows, rest: 5, groups: 1, isDrawn: k < 9000 },
        ...{ metric: 'full', values: 'heavy', isWeighted: false, seed: k },
      }
      const found = JSON.stringify(run(shape, 'tree', 2, 2))
      expect(found === JSON.stringify(run(shape, 'all', 2, 2)), `d = ${d}, k = ${k}`).toBe(true)
    }
  })
})

/** Index of the least difference in float32, the lowest of several. */
function nearestOf(x: number, centroids: Float32Array): number {
  let [best, least] = [0, Number.POSITIVE_INFINITY]
  for (let j = 0; j < centroids.length; j++) {
    const difference = Math.abs(Math.fround(x - centroids[j]))
    if (difference < least) [best, least] = [j, difference]
  }
  return best
}

it.each(builds)('in one dimension many centroids are searched as few are, %s kernels', (build) => {
  const kernels = clusterKernels(createPool(startRuntime(build), 1))
  fc.assert(
    fc.property(
      fc.integer({ min: 250, max: 700 }),
      fc.constantFrom<Shape['values']>('normal', 'heavy', 'lattice', 'far'),
      fc.nat(1e6),
      (k, values, seed) => {
        const random = randomGenerator(seed)
        const vectors = Float32Array.from({ length: 999 }, () => drawValue(values, random))
        const centroids = Float32Array.from({ length: k }, () => drawValue(values, random))
        // every third metric is zero: any centroid is as near as any other
        const problem = { d: 1, k, groups: [vectors], metric: Float64Array.of(1, 0, 3), period: 3 }
        const clustering = kernels.openClustering(problem)
        for (let j = 0; j < k; j++) clustering.setCentroid(0, j, [centroids[j]])
        clustering.assign()
        const expected = vectors.map((x, i) => (i % 3 === 1 ? 0 : nearestOf(x, centroids)))
        expect([...clustering.assignments(0)]).toEqual([...expected])
        clustering.close()
      },
    ),
    { numRuns: 60 },
  )
})
