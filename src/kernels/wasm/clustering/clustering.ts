import type { Clustering, ClusterKernels, ClusterProblem } from '../../contract.js'
import { jobKinds } from '../runtime/job.js'
import { allocate, type KernelMemory, release } from '../runtime/memory.js'
import { type Pool, runJob } from '../runtime/pool.js'
import type { Room } from '../runtime/typed-room.js'
import { type ClusterLayout, clusterLayout } from './cluster-layout.js'
import { type ClusterSearch, treeArrays, treeFor, treeSearch } from './cluster-tree.js'
import { columnMetrics, exponentOf, factorsOf, scaled } from './column-metrics.js'
import type { TreeShape } from './tree-shape.js'

/** Centroids whose norms are kept at once, as in `assembly/clustering.ts`. */
const NORMS = 256

/** Clustering on the threads of `pool`. Vectors are scaled to at most 1, group by group, metrics likewise. */
export function clusterKernels(pool: Pool, search: ClusterSearch = 'fastest'): ClusterKernels {
  return {
    openClustering(problem) {
      const taken: number[] = []
      const close = () => {
        for (const at of taken.splice(0)) release(pool.runtime.heap, at)
      }
      try {
        return { ...openSession(pool, problem, search, taken), close }
      } catch (error) {
        close()
        throw error
      }
    },
  }
}

/** The arrays of a session in the kernels' memory, in the order of `Field` in `assembly/clustering-session.ts`. */
function sessionArrays(
  heap: KernelMemory,
  problem: ClusterProblem,
  layout: ClusterLayout,
  tree: TreeShape | undefined,
  taken: number[],
) {
  const { d, k, groups } = problem
  const { vectors, tiles, sumTiles, groupTable, period } = layout
  const { forms, weights, metrics, exponent } = columnMetrics(problem, period)
  const take = (bytes: number) => {
    const at = allocate(heap, bytes)
    taken.push(at)
    return at
  }
  // the buffer is asked for after `take`, which may make it longer
  const room: Room = (Kind, length) => {
    const at = take(Kind.BYTES_PER_ELEMENT * length)
    return new Kind(heap.memory.buffer, at, length)
  }
  const floats = (length: number) => room(Float32Array, length)
  const doubles = (length: number) => room(Float64Array, length)
  const integers = (length: number) => room(Int32Array, length)
  const counters = (length: number) => room(Uint32Array, length).fill(0)
  const copy = <T extends { set(values: T): void; length: number }>(
    make: (length: number) => T,
    values: T,
  ) => {
    const target = make(values.length)
    target.set(values)
    return target
  }
  const arrays = {
    vectors: floats(vectors * d),
    projected: floats(tree ? 0 : vectors * d),
    codebooks: floats(groups.length * k * d).fill(0),
    centres: floats(groups.length * d),
    assignments: room(Uint16Array, vectors).fill(0),
    distances: floats(vectors).fill(0),
    active: room(Uint8Array, groups.length).fill(1),
    forms: copy(floats, forms),
    weights: copy(doubles, weights),
    metrics: copy(doubles, metrics),
    tiles: copy(integers, tiles),
    tileLosses: doubles(tiles.length / 4).fill(0),
    tileChanges: counters(tiles.length / 4),
    sumTiles: copy(integers, sumTiles),
    sums: doubles((sumTiles.length / 4) * k * systemSize(d)),
    groupTable: copy(integers, groupTable),
    empty: counters(groups.length),
    unsolved: counters(groups.length),
    uniforms: doubles(groups.length),
  }
  const vectorWeights = problem.weights && floats(vectors).fill(0)
  for (const [group, own] of problem.weights?.entries() ?? []) vectorWeights?.set(own, layout.starts[group])
  const treeFields = tree ? treeArrays(problem, layout, forms, tree, room) : [0]
  const offsets = Object.values(arrays).map((array) => array.byteOffset)
  const fields = [d, k, period, 4 * vectors, ...offsets, vectorWeights?.byteOffset ?? 0, ...treeFields]
  const header = integers(2 * fields.length)
  for (const [i, value] of fields.entries()) header[2 * i] = value
  return { ...arrays, session: header.byteOffset, exponent }
}

/** Values per centroid: sum of M x, upper triangle of the sum of M, count. */
function systemSize(d: number): number {
  return d + (d * (d + 1)) / 2 + 1
}

function openSession(
  pool: Pool,
  problem: ClusterProblem,
  kind: ClusterSearch,
  taken: number[],
): Omit<Clustering, 'close'> {
  const { d, k, groups } = problem
  const layout = clusterLayout(problem)
  const { starts, period, vectors: stride } = layout
  const tree = treeFor(problem, layout, kind)
  const arrays = sessionArrays(pool.runtime.heap, problem, layout, tree, taken)
  const { session, exponent, codebooks, assignments, weights, sums } = arrays
  const tiles = layout.tiles.length / 4
  const losses = new Float64Array(groups.length)
  const changed = new Uint32Array(groups.length)
  const exponents = groups.map((vectors) => Math.max(-150, exponentOf(vectors)))
  for (const [group, vectors] of groups.entries()) {
    scatter(vectors, d, exponents[group], arrays.vectors, starts[group], stride, arrays.centres, group * d)
  }
  const triangle = (d * (d + 1)) / 2
  const rows = Math.ceil(longestTile(layout.tiles) / period)
  const align = (bytes: number) => Math.ceil(bytes / 16) * 16
  const searchBytes = 64 + 32 * d + 32 * NORMS + align(4 * k * d) + align(4 * k * triangle) + 64 * rows
  const search = tree && treeSearch(pool, problem, layout, tree, session)
  if (!search) runJob(pool, jobKinds.project, tiles, [session], 0)
  /** Whether the search may begin where it, or a draw of seeds, ended. */
  let isNear = false
  let replaced = 0

  /** Adds up what the tiles of the active groups found, in their order. */
  function sumUp(): void {
    for (let group = 0; group < groups.length; group++) {
      if (arrays.active[group] === 0) continue
      const [first, count] = layout.groupTable.subarray(6 * group + 2, 6 * group + 4)
      let [loss, changes] = [0, 0]
      for (let tile = first; tile < first + count; tile++) {
        loss += arrays.tileLosses[tile]
        changes += arrays.tileChanges[tile]
      }
      losses[group] = scaled(loss, exponent + 2 * exponents[group])
      changed[group] = changes
    }
  }

  return {
    active: arrays.active,
    losses,
    changed,
    empty: arrays.empty,
    unsolved: arrays.unsolved,
    assignments: (group) => assignments.subarray(starts[group], starts[group] + groups[group].length / d),
    distances(group) {
      const start = starts[group]
      const [factor, rest] = factorsOf(exponent + 2 * exponents[group])
      const distances = new Float64Array(groups[group].length / d)
      for (let i = 0; i < distances.length; i++) {
        distances[i] = arrays.distances[start + i] * weights[i % period] * factor * rest
      }
      return distances
    },
    codebook: (group) =>
      codebooks.slice(group * k * d, (group + 1) * k * d).map((value) => scaled(value, exponents[group])),
    systems(group) {
      const first = layout.groupTable[6 * group] * k * systemSize(d)
      return readSystems(sums.subarray(first, first + k * systemSize(d)), d, k, exponents[group])
    },
    setCentroid(group, index, centroid) {
      if (2 * ++replaced > k * groups.length) isNear = false
      const at = (group * k + index) * d
      for (let a = 0; a < d; a++) codebooks[at + a] = scaled(centroid[a], -exponents[group])
    },
    placeSeed(group, index, vector) {
      isNear = false
      const at = (group * k + index) * d
      for (let a = 0; a < d; a++) codebooks[at + a] = arrays.vectors[a * stride + starts[group] + vector]
    },
    drawSeeds(index, uniforms) {
      arrays.uniforms.set(uniforms)
      isNear = search?.drawSeeds(index) ?? false
      if (isNear) return
      runJob(pool, jobKinds.measureSeed, tiles, [session, index - 1], 96 + 32 * d)
      runJob(pool, jobKinds.drawSeed, groups.length, [session, index - 1], 0)
    },
    assign() {
      search?.findNearest(isNear)
      isNear = true
      replaced = 0
      runJob(pool, jobKinds.assign, tiles, [session], searchBytes)
      sumUp()
    },
    move(keepsEmpty) {
      runJob(pool, jobKinds.sumClusters, layout.sumTiles.length / 4, [session], 0)
      const mode = Number(keepsEmpty)
      runJob(pool, jobKinds.moveCentroids, groups.length, [session, mode], 8 * d * (d + 1))
    },
  }
}

function longestTile(tiles: Int32Array): number {
  let longest = 0
  for (let t = 0; t < tiles.length; t += 4) longest = Math.max(longest, tiles[t + 2] - tiles[t + 1])
  return longest
}

/** Writes the vectors of a group dimension by dimension, times `2^-exponent`, and their mean. */
function scatter(
  vectors: Float32Array,
  d: number,
  exponent: number,
  target: Float32Array,
  start: number,
  stride: number,
  centres: Float32Array,
  centreAt: number,
): void {
  const n = vectors.length / d
  const [factor, rest] = factorsOf(-exponent)
  for (let a = 0; a < d; a++) {
    const to = a * stride + start
    let sum = 0
    for (let i = 0; i < n; i++) {
      const value = vectors[i * d + a] * factor * rest
      target[to + i] = value
      sum += value
    }
    centres[centreAt + a] = n > 0 ? sum / n : 0
  }
}

function readSystems(sums: Float64Array, d: number, k: number, exponent: number) {
  const size = systemSize(d)
  const systems = {
    counts: new Float64Array(k),
    weights: new Float64Array(k * d * d),
    sums: new Float64Array(k * d),
  }
  for (let j = 0; j < k; j++) {
    const at = j * size
    systems.counts[j] = sums[at + size - 1]
    let t = at + d
    for (let a = 0; a < d; a++) {
      systems.sums[j * d + a] = scaled(sums[at + a], exponent)
      for (let b = a; b < d; b++) {
        systems.weights[(j * d + a) * d + b] = sums[t]
        systems.weights[(j * d + b) * d + a] = sums[t++]
      }
    }
  }
  return systems
}
