import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { randomGenerator } from '../../src/common/random.js'
import type { Clustering, ClusterProblem, KernelName, Kernels } from '../../src/kernels/contract.js'
import { setThreads, useKernels } from '../../src/kernels/kernels.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import { gaussianMatrix } from '../support/random-matrix.js'

const builds: KernelName[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']

/** Share of a group's largest `(x - m)^T M (x - m)` by which a float32 search may miss the nearest centroid. */
const SEARCH_ROUNDING = 2 ** -19

interface Shape {
  readonly d: number
  readonly k: number
  readonly period: number
  readonly repeats: readonly number[]
  readonly isDiagonal: boolean
  readonly centre: number
  readonly unit: number
  readonly weight: number
  readonly seed: number
  /** Whether vectors have weights of their own, from 2^-20 to 1. */
  readonly isWeighted?: boolean
}

function problemOf(shape: Shape): ClusterProblem {
  const { d, k, period, repeats, isDiagonal, centre, unit, weight, seed, isWeighted } = shape
  const metric = new Float64Array(period * d * d)
  const random = randomGenerator(seed)
  for (let p = 0; p < period; p++) {
    const { data: root } = gaussianMatrix(d + 1, d, seed + p)
    const size = weight * 4 ** Math.floor(random() * 6)
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) {
        let sum = 0
        for (let e = 0; e <= d; e++) sum += root[e * d + a] * root[e * d + b]
        if (a === b || !isDiagonal) metric[(p * d + a) * d + b] = size * sum
      }
    }
  }
  const groups = repeats.map((count, g) =>
    gaussianMatrix(count * period, d, seed + 100 * g).data.map((value) => unit * (centre + value)),
  )
  if (!isWeighted) return { d, k, groups, metric, period }
  const weights = repeats.map((count) =>
    Float32Array.from({ length: count * period }, () => 2 ** (-20 * random())),
  )
  return { d, k, groups, metric, period, weights }
}

const shapes: fc.Arbitrary<Shape> = fc.record({
  d: fc.integer({ min: 1, max: 5 }),
  k: fc.integer({ min: 1, max: 40 }),
  period: fc.integer({ min: 1, max: 20 }),
  repeats: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }),
  isDiagonal: fc.boolean(),
  centre: fc.constantFrom(0, 50),
  unit: fc.constantFrom(1, 2 ** -40, 2 ** 60),
  weight: fc.constantFrom(1, 1e-20, 1e18),
  seed: fc.nat(1e6),
  isWeighted: fc.boolean(),
})

/** What the metric of vector i of a group is multiplied by. */
const weightOf = ({ weights }: ClusterProblem, group: number, i: number) => weights?.[group][i] ?? 1

/** `(x - c)^T M (x - c)` for vector i of a group, without its weight. */
function distance(
  { d, metric, period, groups }: ClusterProblem,
  group: number,
  i: number,
  c: ArrayLike<number>,
) {
  const m = (i % period) * d * d
  const x = groups[group].subarray(i * d, (i + 1) * d)
  let sum = 0
  for (let a = 0; a < d; a++) {
    for (let b = 0; b < d; b++) sum += (x[a] - c[a]) * metric[m + a * d + b] * (x[b] - c[b])
  }
  return sum
}

/** The largest distance of vectors and centroids from the group's mean, in any metric of the group. */
function sizeOf(problem: ClusterProblem, group: number, codebook: Float32Array): number {
  const { d, groups, metric, period } = problem
  const n = groups[group].length / d
  const mean = new Float64Array(d)
  for (let i = 0; i < n * d; i++) mean[i % d] += groups[group][i] / n
  let size = 0
  for (let i = 0; i < n; i++) size = Math.max(size, distance(problem, group, i, mean))
  const centroids: ClusterProblem = { d, k: 1, groups: [codebook], metric, period: 1 }
  for (let j = 0; j < codebook.length / d; j++) {
    for (let p = 0; p < period; p++) {
      const own = { ...centroids, metric: metric.subarray(p * d * d, (p + 1) * d * d) }
      size = Math.max(size, distance(own, 0, j, mean))
    }
  }
  return size
}

function use<T>(implementation: Kernels, problem: ClusterProblem, run: (clustering: Clustering) => T): T {
  const clustering = implementation.openClustering(problem)
  try {
    return run(clustering)
  } finally {
    clustering.close()
  }
}

function place(clustering: Clustering, { d, k, groups }: ClusterProblem, seed: number): void {
  const random = randomGenerator(seed)
  for (const [g, vectors] of groups.entries()) {
    for (let j = 0; j < k; j++) clustering.placeSeed(g, j, Math.floor((random() * vectors.length) / d))
  }
}

/** All that can be read of a clustering. */
function snapshot(clustering: Clustering, { groups }: ClusterProblem) {
  return {
    losses: clustering.losses.slice(),
    changed: clustering.changed.slice(),
    empty: clustering.empty.slice(),
    unsolved: clustering.unsolved.slice(),
    groups: groups.map((_, g) => ({
      assignments: clustering.assignments(g).slice(),
      distances: clustering.distances(g),
      codebook: clustering.codebook(g),
    })),
  }
}

/** Seeds by distance, then a few steps. */
function walk(clustering: Clustering, problem: ClusterProblem, seed: number) {
  const random = randomGenerator(seed)
  for (const [g, vectors] of problem.groups.entries()) {
    clustering.placeSeed(g, 0, Math.floor((random() * vectors.length) / problem.d))
  }
  for (let j = 1; j < problem.k; j++) {
    clustering.drawSeeds(j, Float64Array.from(problem.groups, random))
  }
  const steps = []
  for (let step = 0; step < 4; step++) {
    clustering.assign()
    clustering.move(step > 1)
    steps.push(snapshot(clustering, problem))
  }
  return steps
}

describe.each(builds)('clustering, %s kernels', (name) => {
  it('takes centroids as near as the nearest of the reference, and measures distances as it does', () => {
    const fast = useKernels(name)
    const reference = useKernels('reference')
    fc.assert(
      fc.property(shapes, (shape) => {
        const problem = problemOf(shape)
        const [ours, theirs] = [fast, reference].map((kernels) =>
          use(kernels, problem, (clustering) => {
            place(clustering, problem, shape.seed)
            clustering.assign()
            return snapshot(clustering, problem)
          }),
        )
        for (const [g, { assignments, distances, codebook }] of ours.groups.entries()) {
          expect(codebook).toEqual(theirs.groups[g].codebook)
          const size = SEARCH_ROUNDING * sizeOf(problem, g, codebook)
          let loss = 0
          let missed = 0
          for (const [i, nearest] of assignments.entries()) {
            const centroidOf = (j: number) => codebook.subarray(j * shape.d, (j + 1) * shape.d)
            const weight = weightOf(problem, g, i)
            const slack = weight * size
            const exact = weight * distance(problem, g, i, centroidOf(nearest))
            const least = weight * distance(problem, g, i, centroidOf(theirs.groups[g].assignments[i]))
            if (!(exact - least <= slack && Math.abs(distances[i] - exact) <= slack)) missed++
            loss += distances[i]
          }
          expect(missed).toBe(0)
          expect(Math.abs(ours.losses[g] - loss)).toBeLessThanOrEqual(1e-12 * loss)
          expect(ours.changed[g]).toBe(assignments.filter((index) => index !== 0).length)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('moves centroids to where the reference moves them, from the same assignments', () => {
    const fast = useKernels(name)
    const reference = useKernels('reference')
    fc.assert(
      fc.property(shapes, fc.boolean(), (shape, keepsEmpty) => {
        const problem = problemOf(shape)
        const [ours, theirs] = [fast, reference].map((kernels) =>
          use(kernels, problem, (clustering) => {
            place(clustering, problem, shape.seed)
            for (let g = 0; g < problem.groups.length; g++) {
              const random = randomGenerator(g)
              const assignments = clustering.assignments(g)
              for (let i = 0; i < assignments.length; i++) assignments[i] = Math.floor(random() * shape.k)
            }
            clustering.move(keepsEmpty)
            return {
              ...snapshot(clustering, problem),
              counts: problem.groups.map((_, g) => clustering.systems(g).counts),
            }
          }),
        )
        expect(ours.counts).toEqual(theirs.counts)
        expect(ours.empty).toEqual(theirs.empty)
        for (const [g, vectors] of problem.groups.entries()) {
          if (ours.unsolved[g] + theirs.unsolved[g] > 0) continue
          const size = vectors.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
          const expected = theirs.groups[g].codebook
          // a system that is nearly singular multiplies the rounding of float64 by up to 1e10
          const differences = ours.groups[g].codebook.map((value, i) => Math.abs(value - expected[i]) / size)
          expect(Math.max(...differences)).toBeLessThan(
            1e-5 * Math.max(1, ...expected.map((c) => Math.abs(c) / size)),
          )
        }
      }),
      { numRuns: 200 },
    )
  })

  it('gives the same bits with 1 and 2 threads, whatever other groups there are', () => {
    const kernels = useKernels(name)
    const run = (problem: ClusterProblem, threads: number, seed: number) => {
      setThreads(threads)
      return use(kernels, problem, (clustering) => walk(clustering, problem, seed))
    }
    fc.assert(
      fc.property(shapes, (shape) => {
        const problem = problemOf({ ...shape, k: Math.min(shape.k, 9) })
        expect(run(problem, 2, shape.seed)).toEqual(run(problem, 1, shape.seed))
      }),
      { numRuns: 50 },
    )
    // several tiles per group, of assignments and of sums
    const large = problemOf({
      ...{ d: 2, k: 300, period: 7, repeats: [2000, 31, 1500], isDiagonal: false },
      ...{ centre: 1, unit: 1, weight: 1, seed: 5, isWeighted: true },
    })
    const steps = run(large, 1, 1)
    expect(run(large, 2, 1)).toEqual(steps)
    const alone = { ...large, groups: large.groups.slice(0, 1), weights: large.weights?.slice(0, 1) }
    const [first] = use(kernels, large, (clustering) => {
      place(clustering, large, 3)
      clustering.assign()
      return snapshot(clustering, large).groups
    })
    const [single] = use(kernels, alone, (clustering) => {
      place(clustering, alone, 3)
      clustering.assign()
      return snapshot(clustering, alone).groups
    })
    expect(single).toEqual(first)
  })

  it('draws the seeds that the reference draws, by weighted distances', () => {
    for (let seed = 0; seed < 10; seed++) {
      const problem = problemOf({
        ...{ d: 2, k: 12, period: 5, repeats: [40, 3], isDiagonal: false },
        ...{ centre: 0, unit: 1, weight: 1, seed, isWeighted: true },
      })
      const [ours, theirs, unweighted] = [
        { kernels: useKernels(name), problem },
        { kernels: useKernels('reference'), problem },
        { kernels: useKernels('reference'), problem: { ...problem, weights: undefined } },
      ].map(({ kernels, problem }) =>
        use(kernels, problem, (clustering) => walk(clustering, problem, seed)[0].groups[0].assignments),
      )
      expect(ours).toEqual(theirs)
      expect(ours).not.toEqual(unweighted)
    }
    useKernels(name)
  })

  it('never lets the loss rise beyond rounding, in each step of many', () => {
    const kernels = useKernels(name)
    fc.assert(
      fc.property(shapes, (shape) => {
        const problem = problemOf(shape)
        use(kernels, problem, (clustering) => {
          place(clustering, problem, shape.seed)
          clustering.assign()
          for (let step = 0; step < 6; step++) {
            const before = clustering.losses.slice()
            const sizes = problem.groups.map((_, g) => sizeOf(problem, g, clustering.codebook(g)))
            clustering.move(true)
            clustering.assign()
            for (const [g, vectors] of problem.groups.entries()) {
              if (clustering.unsolved[g] > 0) continue
              const slack = SEARCH_ROUNDING * sizes[g] * (vectors.length / shape.d)
              expect(clustering.losses[g] - before[g]).toBeLessThanOrEqual(slack)
            }
          }
        })
      }),
      { numRuns: 100 },
    )
  })

  it.each([1, 2, 3, 4, 5])('takes the lowest index of equally near centroids, d = %d', (d) => {
    const one = gaussianMatrix(1, d, d).data
    const far = one.map((value) => value + 100)
    // 600 centroids: more than are searched at once
    for (const k of [5, 600]) {
      const groups = [Float32Array.from([...one, ...far, ...one])]
      const metric = new Float64Array(d * d)
      for (let a = 0; a < d; a++) metric[a * d + a] = 1 + a
      const problem = { d, k, groups, metric, period: 1 }
      const assignments = use(useKernels(name), problem, (clustering) => {
        for (let j = 0; j < k; j++) clustering.placeSeed(0, j, 1)
        for (const j of [k - 1, k - 4, k - 2]) clustering.placeSeed(0, j, 0)
        clustering.assign()
        return [...clustering.assignments(0)]
      })
      expect(assignments).toEqual([k - 4, 0, k - 4])
    }
  })

  it('reaches the last of 65536 centroids', () => {
    const vectors = Float32Array.from({ length: 65536 }, (_, i) => i)
    const problem = { d: 1, k: 65536, groups: [vectors], metric: Float64Array.of(1), period: 1 }
    use(useKernels(name), problem, (clustering) => {
      for (let j = 0; j < 65536; j++) clustering.setCentroid(0, j, [j])
      clustering.assign()
      expect(clustering.assignments(0).every((index, i) => index === i)).toBe(true)
      expect(clustering.losses[0]).toBe(0)
    })
  })

  it('leaves groups that are not active as they are, and flags empty clusters without moving their group', () => {
    const problem = problemOf({
      ...{ d: 2, k: 4, period: 3, repeats: [5, 9, 7], isDiagonal: false },
      ...{ centre: 0, unit: 1, weight: 1, seed: 11 },
    })
    use(useKernels(name), problem, (clustering) => {
      place(clustering, problem, 1)
      clustering.assign()
      clustering.assignments(2).fill(1)
      const before = snapshot(clustering, problem)
      clustering.active[1] = 0
      clustering.move(false)
      clustering.assign()
      const after = snapshot(clustering, problem)
      expect(after.groups[1]).toEqual(before.groups[1])
      expect(after.losses[1]).toBe(before.losses[1])
      expect(clustering.empty[2]).toBe(3)
      expect(after.groups[2].codebook).toEqual(before.groups[2].codebook)
      clustering.assignments(2).fill(1)
      clustering.move(true)
      const moved = clustering.codebook(2)
      expect([...moved.subarray(0, 2), ...moved.subarray(4)]).toEqual([
        ...before.groups[2].codebook.subarray(0, 2),
        ...before.groups[2].codebook.subarray(4),
      ])
      expect(moved.subarray(2, 4)).not.toEqual(before.groups[2].codebook.subarray(2, 4))
    })
  })

  it('flags clusters whose metrics see no more than a line', () => {
    const problem = {
      ...{ d: 2, k: 1, period: 1, metric: Float64Array.of(1, 1, 1, 1) },
      groups: [gaussianMatrix(9, 2, 1).data],
    }
    use(useKernels(name), problem, (clustering) => {
      clustering.placeSeed(0, 0, 3)
      clustering.assign()
      clustering.move(false)
      expect([...clustering.unsolved]).toEqual([1])
      expect([...clustering.codebook(0)]).toEqual([...problem.groups[0].subarray(6, 8)])
      const { weights, counts } = clustering.systems(0)
      expect([...weights].map((weight) => weight / weights[0])).toEqual([1, 1, 1, 1])
      expect([...counts]).toEqual([9])
    })
  })

  it('gives back its memory', () => {
    const kernels = useKernels(name)
    const problem = problemOf({
      ...{ d: 3, k: 5, period: 4, repeats: [50], isDiagonal: true },
      ...{ centre: 0, unit: 1, weight: 1, seed: 1 },
    })
    const addresses = [0, 0, 0].map(() =>
      use(kernels, problem, (clustering) => clustering.assignments(0).byteOffset),
    )
    expect(new Set(addresses).size).toBe(1)
  })
})
