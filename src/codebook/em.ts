import { assignNearest, centroidNorms, projectVectors } from '../kernels/reference/assign.js'
import type { Metric } from './metric.js'
import { solveSymmetric } from './small-solve.js'

/** What {@link runEm} found; the codebook itself is written into the caller's array. */
export interface EmResult {
  /** Index of each vector's centroid. */
  readonly assignments: Uint16Array
  /** `sum_i dist(x_i, c_assigned)` after every assignment step; never rises. The last is the final loss. */
  readonly losses: Float64Array
}

/**
 * k-means by expectation maximisation under a metric per vector (DESIGN: mathematics, 3-5): assign every vector to its
 * nearest centroid, then move each centroid to `(sum M_i)^+ sum M_i x_i` of its vectors. A centroid that lost all its
 * vectors is moved onto the vector fitted worst. Stops early when an assignment step changes nothing or the
 * loss no longer falls.
 *
 * @param vectors n x d
 * @param codebook k x d, holds the seeds on entry and the centroids on return
 */
export function runEm(
  vectors: Float32Array,
  n: number,
  d: number,
  metric: Metric,
  codebook: Float32Array,
  k: number,
  iterations: number,
): EmResult {
  const state = makeState(vectors, n, d, metric, k)
  const losses: number[] = []
  losses.push(assign(state, codebook))
  for (let i = 0; i < iterations; i++) {
    repairEmptyClusters(state)
    moveCentroids(state, codebook)
    const before = state.assignments.slice()
    losses.push(assign(state, codebook))
    const fell = losses[losses.length - 1] < losses[losses.length - 2]
    if (!fell || sameValues(before, state.assignments)) break
  }
  return { assignments: state.assignments, losses: Float64Array.from(losses) }
}

interface EmState {
  readonly vectors: Float32Array
  readonly n: number
  readonly d: number
  readonly k: number
  readonly metric: Metric
  readonly projected: Float64Array
  readonly energies: Float64Array
  readonly norms: Float64Array
  readonly scores: Float64Array
  readonly assignments: Uint16Array
}

function makeState(vectors: Float32Array, n: number, d: number, metric: Metric, k: number): EmState {
  const projected = new Float64Array(n * d)
  const energies = new Float64Array(n)
  projectVectors(vectors, n, d, metric.data, metric.period, projected, energies)
  const norms = new Float64Array(metric.period * k)
  const scores = new Float64Array(n)
  return { vectors, n, d, k, metric, projected, energies, norms, scores, assignments: new Uint16Array(n) }
}

function assign(state: EmState, codebook: Float32Array): number {
  const { n, d, k, metric, projected, energies, norms, scores, assignments } = state
  centroidNorms(codebook, k, d, metric.data, metric.period, norms)
  assignNearest(projected, n, d, codebook, k, norms, metric.period, assignments, scores)
  let loss = 0
  for (let i = 0; i < n; i++) loss += Math.max(0, scores[i] + energies[i])
  return loss
}

/** Gives each empty cluster the worst-fitted vector that is not alone in its own. */
function repairEmptyClusters(state: EmState): void {
  const { n, k, assignments, scores, energies } = state
  const counts = new Uint32Array(k)
  for (let i = 0; i < n; i++) counts[assignments[i]]++
  if (!counts.includes(0)) return
  const distance = (i: number) => scores[i] + energies[i]
  const worstFirst = Uint32Array.from(assignments.keys()).sort((i, j) => distance(j) - distance(i) || i - j)
  let next = 0
  for (let cluster = 0; cluster < k; cluster++) {
    if (counts[cluster] > 0) continue
    while (next < n && counts[assignments[worstFirst[next]]] < 2) next++
    // what remains lies on its centroid to within rounding: there are fewer distinct vectors than centroids
    if (next === n || distance(worstFirst[next]) <= 1e-12 * energies[worstFirst[next]]) return
    const vector = worstFirst[next++]
    counts[assignments[vector]]--
    assignments[vector] = cluster
    counts[cluster] = 1
  }
}

function moveCentroids(state: EmState, codebook: Float32Array): void {
  const { n, d, k, metric, projected, assignments } = state
  const weights = new Float64Array(k * d * d)
  const sums = new Float64Array(k * d)
  const counts = new Uint32Array(k)
  for (let i = 0; i < n; i++) {
    const c = assignments[i]
    const m = (i % metric.period) * d * d
    for (let a = 0; a < d; a++) sums[c * d + a] += projected[i * d + a]
    for (let a = 0; a < d * d; a++) weights[c * d * d + a] += metric.data[m + a]
    counts[c]++
  }
  const centroid = new Float64Array(d)
  for (let c = 0; c < k; c++) {
    if (counts[c] === 0) continue
    solveSymmetric(weights, c * d * d, sums, c * d, d, centroid)
    codebook.set(centroid, c * d)
  }
}

function sameValues(a: Uint16Array, b: Uint16Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}
