import type { Clustering, ClusterProblem } from '../kernels/contract.js'
import { solveSymmetric } from './small-solve.js'

/**
 * k-means by expectation maximisation under a metric per vector, on all groups of `clustering`
 * side by side: assign every vector to its nearest centroid, then move each centroid to `(sum M_i)^+ sum M_i x_i` of its
 * vectors. A centroid that lost all its vectors is moved onto the vector fitted worst. A group stops early when an
 * assignment step changes nothing or its loss falls by no more than a share `tolerance`.
 *
 * @param clustering opened on `problem`; holds the seeds on entry, the centroids and assignments on return
 * @returns per group `sum_i dist(x_i, c_assigned)` after every assignment step; rises by no more than rounding
 */
export function runEm(
  clustering: Clustering,
  problem: ClusterProblem,
  iterations: number,
  tolerance = 0,
): Float64Array[] {
  const { active, losses, changed } = clustering
  const history: number[][] = problem.groups.map(() => [])
  active.fill(1)
  clustering.assign()
  for (const [group, past] of history.entries()) past.push(losses[group])
  for (let i = 0; i < iterations && active.includes(1); i++) {
    moveCentroids(clustering, problem)
    clustering.assign()
    for (const [group, past] of history.entries()) {
      if (active[group] === 0) continue
      const fell = losses[group] < (1 - tolerance) * past[past.length - 1]
      past.push(losses[group])
      if (!fell || changed[group] === 0) active[group] = 0
    }
  }
  return history.map((past) => Float64Array.from(past))
}

/** One step of all active groups, those with empty clusters after these got vectors. */
function moveCentroids(clustering: Clustering, problem: ClusterProblem): void {
  const { active, empty } = clustering
  clustering.move(false)
  solveRest(clustering, problem, (group) => empty[group] === 0)
  const before = active.slice()
  for (let group = 0; group < active.length; group++) {
    if (active[group] === 0) continue
    if (empty[group] > 0) repairEmptyClusters(clustering, problem, group)
    else active[group] = 0
  }
  if (active.includes(1)) {
    clustering.move(true)
    solveRest(clustering, problem, () => true)
  }
  active.set(before)
}

/** Gives each empty cluster the worst-fitted vector that is not alone in its own. */
function repairEmptyClusters(clustering: Clustering, problem: ClusterProblem, group: number): void {
  const { k } = problem
  const assignments = clustering.assignments(group)
  const distances = clustering.distances(group)
  const n = assignments.length
  const counts = new Uint32Array(k)
  for (let i = 0; i < n; i++) counts[assignments[i]]++
  const worstFirst = Uint32Array.from(assignments.keys()).sort((i, j) => distances[j] - distances[i] || i - j)
  let next = 0
  for (let cluster = 0; cluster < k; cluster++) {
    if (counts[cluster] > 0) continue
    while (next < n && counts[assignments[worstFirst[next]]] < 2) next++
    // what remains lies on its centroid to within rounding: there are fewer distinct vectors than centroids
    if (next === n) return
    const vector = worstFirst[next++]
    if (distances[vector] <= 1e-12 * energyOf(problem, group, vector)) return
    counts[assignments[vector]]--
    assignments[vector] = cluster
    counts[cluster] = 1
  }
}

/** `x^T M x` of one vector. */
function energyOf(problem: ClusterProblem, group: number, vector: number): number {
  const { d, metric, period, groups, weights } = problem
  const at = vector * d
  const m = (vector % period) * d * d
  let energy = 0
  for (let a = 0; a < d; a++) {
    for (let b = 0; b < d; b++) {
      energy += groups[group][at + a] * metric[m + a * d + b] * groups[group][at + b]
    }
  }
  return energy * (weights?.[group][vector] ?? 1)
}

/** Solves the systems that have no unique solution: the shortest one is taken. */
function solveRest(
  clustering: Clustering,
  { d, k }: ClusterProblem,
  isMoved: (group: number) => boolean,
): void {
  const { active, unsolved } = clustering
  const centroid = new Float64Array(d)
  for (let group = 0; group < active.length; group++) {
    if (active[group] === 0 || unsolved[group] === 0 || !isMoved(group)) continue
    const { counts, weights, sums } = clustering.systems(group)
    for (let j = 0; j < k; j++) {
      if (counts[j] === 0) continue
      solveSymmetric(weights, j * d * d, sums, j * d, d, centroid)
      clustering.setCentroid(group, j, centroid)
    }
  }
}
