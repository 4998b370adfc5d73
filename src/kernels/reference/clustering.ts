import type { Clustering, ClusterProblem } from '../contract.js'
import { assignNearest, centroidNorms, projectVectors } from './assign.js'

/** Clustering group by group in plain float64. */
export function openClustering(problem: ClusterProblem): Clustering {
  const { d, k, metric, period } = problem
  const groups = problem.groups.map((vectors, group) => openGroup(problem, vectors, problem.weights?.[group]))
  const active = new Uint8Array(groups.length).fill(1)
  const losses = new Float64Array(groups.length)
  const [changed, empty, unsolved] = [0, 1, 2].map(() => new Uint32Array(groups.length))
  const norms = new Float64Array(period * k)
  const forEachActive = (step: (group: Group, index: number) => void) => {
    for (const [index, group] of groups.entries()) if (active[index] !== 0) step(group, index)
  }
  return {
    active,
    losses,
    changed,
    empty,
    unsolved,
    assignments: (group) => groups[group].assignments,
    distances: (group) => groups[group].distances.slice(),
    codebook: (group) => groups[group].codebook.slice(),
    systems: (group) => groups[group].systems,
    setCentroid: (group, index, centroid) => groups[group].codebook.set(centroid, index * d),
    placeSeed(group, index, vector) {
      const { vectors, codebook } = groups[group]
      codebook.set(vectors.subarray(vector * d, (vector + 1) * d), index * d)
    },
    drawSeeds(index, uniforms) {
      forEachActive((group, at) => {
        const total = lowerDistances(problem, group, index - 1)
        const drawn = total > 0 ? drawProportionally(group.distances, total, uniforms[at]) : undefined
        const chosen = drawn ?? Math.floor(uniforms[at] * group.distances.length)
        group.codebook.set(group.vectors.subarray(chosen * d, (chosen + 1) * d), index * d)
      })
    },
    assign() {
      forEachActive((group, at) => {
        const { codebook, projected, distances, energies, assignments, weights } = group
        const n = distances.length
        const before = assignments.slice()
        centroidNorms(codebook, k, d, metric, period, norms)
        assignNearest(projected, n, d, codebook, k, norms, period, assignments, distances)
        let loss = 0
        let changes = 0
        for (let i = 0; i < n; i++) {
          distances[i] = weightOf(weights, i) * Math.max(0, distances[i] + energies[i])
          loss += distances[i]
          if (assignments[i] !== before[i]) changes++
        }
        losses[at] = loss
        changed[at] = changes
      })
    },
    move(keepsEmpty) {
      forEachActive((group, at) => {
        sumClusters(problem, group)
        empty[at] = group.systems.counts.reduce((sum, count) => sum + (count === 0 ? 1 : 0), 0)
        if (empty[at] === 0 || keepsEmpty) unsolved[at] = solveClusters(group, k, d)
      })
    },
    close() {},
  }
}

interface Group {
  readonly vectors: Float32Array
  readonly weights: Float32Array | undefined
  readonly projected: Float64Array
  readonly energies: Float64Array
  readonly codebook: Float32Array
  readonly assignments: Uint16Array
  readonly distances: Float64Array
  readonly systems: { counts: Float64Array; weights: Float64Array; sums: Float64Array }
}

function weightOf(weights: Float32Array | undefined, vector: number): number {
  return weights === undefined ? 1 : weights[vector]
}

function openGroup(
  { d, k, metric, period }: ClusterProblem,
  vectors: Float32Array,
  weights: Float32Array | undefined,
): Group {
  const n = vectors.length / d
  const projected = new Float64Array(n * d)
  const energies = new Float64Array(n)
  projectVectors(vectors, n, d, metric, period, projected, energies)
  return {
    vectors,
    weights,
    projected,
    energies,
    codebook: new Float32Array(k * d),
    assignments: new Uint16Array(n),
    distances: new Float64Array(n),
    systems: {
      counts: new Float64Array(k),
      weights: new Float64Array(k * d * d),
      sums: new Float64Array(k * d),
    },
  }
}

function sumClusters({ d, metric, period }: ClusterProblem, group: Group): void {
  const { projected, assignments, systems } = group
  const { counts, weights, sums } = systems
  counts.fill(0)
  weights.fill(0)
  sums.fill(0)
  for (let i = 0; i < assignments.length; i++) {
    const c = assignments[i]
    const m = (i % period) * d * d
    const weight = weightOf(group.weights, i)
    for (let a = 0; a < d; a++) sums[c * d + a] += weight * projected[i * d + a]
    for (let a = 0; a < d * d; a++) weights[c * d * d + a] += weight * metric[m + a]
    counts[c]++
  }
}

/** Lowers the distances of all vectors to those from one more seed and returns their sum. */
function lowerDistances({ d, metric, period }: ClusterProblem, group: Group, seed: number): number {
  const { projected, energies, codebook, distances } = group
  const n = distances.length
  const centroid = codebook.subarray(seed * d, (seed + 1) * d)
  const norms = new Float64Array(period)
  const scores = new Float64Array(n)
  centroidNorms(centroid, 1, d, metric, period, norms)
  assignNearest(projected, n, d, centroid, 1, norms, period, new Uint16Array(n), scores)
  let total = 0
  for (let i = 0; i < n; i++) {
    const distance = weightOf(group.weights, i) * Math.max(0, scores[i] + energies[i])
    distances[i] = seed === 0 ? distance : Math.min(distances[i], distance)
    total += distances[i]
  }
  return total
}

function drawProportionally(shares: Float64Array, total: number, uniform: number): number {
  let rest = uniform * total
  for (let i = 0; i < shares.length; i++) {
    rest -= shares[i]
    if (rest < 0) return i
  }
  return shares.findLastIndex((share) => share > 0)
}

const RANK_TOLERANCE = 1e-10

/** Moves the centroids with vectors; returns how many have no safe solution. */
function solveClusters({ systems, codebook }: Group, k: number, d: number): number {
  let unsolved = 0
  for (let j = 0; j < k; j++) {
    if (systems.counts[j] === 0) continue
    const solution = solve(
      systems.weights.subarray(j * d * d, (j + 1) * d * d),
      systems.sums.subarray(j * d, (j + 1) * d),
      d,
    )
    if (solution === undefined) unsolved++
    else codebook.set(solution, j * d)
  }
  return unsolved
}

/** By Gaussian elimination, whose pivots are those of Cholesky; undefined where one is too small. */
function solve(matrix: Float64Array, right: Float64Array, d: number): Float64Array | undefined {
  const a = matrix.slice()
  const x = right.slice()
  for (let p = 0; p < d; p++) {
    const pivot = a[p * d + p]
    if (!(pivot > RANK_TOLERANCE * matrix[p * d + p])) return undefined
    for (let i = p + 1; i < d; i++) {
      const factor = a[i * d + p] / pivot
      for (let j = p; j < d; j++) a[i * d + j] -= factor * a[p * d + j]
      x[i] -= factor * x[p]
    }
  }
  for (let i = d - 1; i >= 0; i--) {
    for (let j = i + 1; j < d; j++) x[i] -= a[i * d + j] * x[j]
    x[i] /= a[i * d + i]
  }
  return x
}
