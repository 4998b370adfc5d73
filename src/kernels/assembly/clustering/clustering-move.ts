import { Field, field, triangleAt, triangleOf } from './clustering-session'
import { param } from '../job'

/** As in `codebook/small-solve.ts`. */
const RANK_TOLERANCE: f64 = 1e-10

/** Sums of `M x` and `M` and the counts of the clusters, over the vectors of one tile. */
export function sumTile(tile: i32): void {
  const entry = field(Field.SUM_TILES) + (<usize>tile << 4)
  if (!load<u8>(field(Field.ACTIVE) + <usize>load<i32>(entry))) return
  const d = <i32>field(Field.DIMENSIONS)
  const period = <i32>field(Field.PERIOD)
  const plane = field(Field.PLANE)
  const triangle = triangleOf(d)
  const size = <usize>(d + triangle + 1) << 3
  const bytes = <usize>field(Field.CENTROIDS) * size
  const sums = field(Field.SUMS) + <usize>tile * bytes
  memory.fill(sums, 0, bytes)
  const first = load<i32>(entry, 4)
  const end = load<i32>(entry, 8)
  const row = <usize>triangle << 3
  const metrics = field(Field.METRICS)
  const metricsEnd = metrics + <usize>period * row
  let metric = metrics + <usize>((first - load<i32>(entry, 12)) % period) * row
  let index = field(Field.ASSIGNMENTS) + <usize>first * 2
  let x = field(Field.VECTORS) + <usize>first * 4
  const vectorWeights = field(Field.VECTOR_WEIGHTS)
  for (let i = first; i < end; i++) {
    const to = sums + <usize>load<u16>(index) * size
    const weight = vectorWeights ? <f64>load<f32>(vectorWeights + <usize>i * 4) : 1
    if (d == 2) addVector2(x, plane, metric, weight, to)
    else if (d == 1) addVector1(x, metric, weight, to)
    else if (d == 4) addVector4(x, plane, metric, weight, to)
    else addVector(x, plane, metric, weight, d, triangle, to)
    index += 2
    x += 4
    metric += row
    if (metric == metricsEnd) metric = metrics
  }
}

// @ts-expect-error: decorator
@inline
function addVector1(x: usize, metric: usize, weight: f64, to: usize): void {
  const own = weight * load<f64>(metric)
  store<f64>(to, load<f64>(to) + own * <f64>load<f32>(x))
  store<f64>(to, load<f64>(to, 8) + own, 8)
  store<f64>(to, load<f64>(to, 16) + 1, 16)
}

// @ts-expect-error: decorator
@inline
function addVector2(x: usize, plane: usize, metric: usize, weight: f64, to: usize): void {
  const w = f64x2.splat(weight)
  const top = f64x2.mul(w, v128.load(metric))
  const bottom = f64x2.mul(w, v128.load(metric, 8))
  const last = f64x2.replace_lane(v128.shuffle<f64>(bottom, bottom, 1, 1), 1, 1)
  const product = f64x2.add(
    f64x2.mul(top, f64x2.splat(<f64>load<f32>(x))),
    f64x2.mul(bottom, f64x2.splat(<f64>load<f32>(x + plane))),
  )
  v128.store(to, f64x2.add(v128.load(to), product))
  v128.store(to, f64x2.add(v128.load(to, 16), top), 16)
  v128.store(to, f64x2.add(v128.load(to, 32), last), 32)
}

// @ts-expect-error: decorator
@inline
function addVector4(x: usize, plane: usize, metric: usize, weight: f64, to: usize): void {
  const w = f64x2.splat(weight)
  const x0 = f64x2.splat(<f64>load<f32>(x))
  const x1 = f64x2.splat(<f64>load<f32>(x + plane))
  const x2 = f64x2.splat(<f64>load<f32>(x + 2 * plane))
  const x3 = f64x2.splat(<f64>load<f32>(x + 3 * plane))
  // rows of the upper triangle start at 0, 4, 7 and 9; columns below the diagonal are rows above it
  const m01 = f64x2.mul(w, v128.load(metric))
  const m23 = f64x2.mul(w, v128.load(metric, 16))
  const m1112 = f64x2.mul(w, v128.load(metric, 32))
  const m1322 = f64x2.mul(w, v128.load(metric, 48))
  const m2333 = f64x2.mul(w, v128.load(metric, 64))
  let top = f64x2.mul(m01, x0)
  top = f64x2.add(top, f64x2.mul(v128.shuffle<f64>(m01, m1112, 1, 2), x1))
  top = f64x2.add(top, f64x2.mul(v128.shuffle<f64>(m23, m1112, 0, 3), x2))
  top = f64x2.add(top, f64x2.mul(v128.shuffle<f64>(m23, m1322, 1, 2), x3))
  let bottom = f64x2.mul(m23, x0)
  bottom = f64x2.add(bottom, f64x2.mul(v128.shuffle<f64>(m1112, m1322, 1, 2), x1))
  bottom = f64x2.add(bottom, f64x2.mul(v128.shuffle<f64>(m1322, m2333, 1, 2), x2))
  bottom = f64x2.add(bottom, f64x2.mul(m2333, x3))
  v128.store(to, f64x2.add(v128.load(to), top))
  v128.store(to, f64x2.add(v128.load(to, 16), bottom), 16)
  v128.store(to, f64x2.add(v128.load(to, 32), m01), 32)
  v128.store(to, f64x2.add(v128.load(to, 48), m23), 48)
  v128.store(to, f64x2.add(v128.load(to, 64), m1112), 64)
  v128.store(to, f64x2.add(v128.load(to, 80), m1322), 80)
  v128.store(to, f64x2.add(v128.load(to, 96), m2333), 96)
  store<f64>(to, load<f64>(to, 112) + 1, 112)
}

// @ts-expect-error: decorator
@inline
function addVector(
  x: usize,
  plane: usize,
  metric: usize,
  weight: f64,
  d: i32,
  triangle: i32,
  to: usize,
): void {
  for (let a = 0; a < d; a++) {
    let sum: f64 = 0
    for (let b = 0; b < d; b++) {
      const own = weight * load<f64>(metric + <usize>(triangleAt(a, b, d) << 3))
      sum += own * <f64>load<f32>(x + <usize>b * plane)
    }
    store<f64>(to, load<f64>(to) + sum)
    to += 8
  }
  for (let t = 0; t < triangle; t++) {
    store<f64>(to, load<f64>(to) + weight * load<f64>(metric))
    to += 8
    metric += 8
  }
  store<f64>(to, load<f64>(to) + 1)
}

/**
 * Adds up the tiles of one group in order and moves its centroids. A group with empty clusters keeps its centroids
 * unless `keepsEmpty` (parameter 1): then only the empty ones stay.
 */
export function moveTile(group: i32, scratch: usize): void {
  if (!load<u8>(field(Field.ACTIVE) + <usize>group)) return
  const d = <i32>field(Field.DIMENSIONS)
  const k = <i32>field(Field.CENTROIDS)
  const size = <usize>(d + triangleOf(d) + 1) << 3
  const bytes = <usize>k * size
  const entry = field(Field.GROUPS) + <usize>group * 24
  const sums = field(Field.SUMS) + <usize>load<i32>(entry) * bytes
  for (let t = 1; t < load<i32>(entry, 4); t++) {
    const more = sums + <usize>t * bytes
    for (let at: usize = 0; at < bytes; at += 8) {
      store<f64>(sums + at, load<f64>(sums + at) + load<f64>(more + at))
    }
  }
  let empty = 0
  for (let j = 1; j <= k; j++) if (load<f64>(sums + <usize>j * size - 8) == 0) empty++
  store<i32>(field(Field.EMPTY) + (<usize>group << 2), empty)
  if (empty > 0 && !param<i32>(1)) return
  let unsolved = 0
  let system = sums
  let centroid = field(Field.CODEBOOKS) + <usize>(group * k * d) * 4
  for (let j = 0; j < k; j++) {
    if (load<f64>(system + size - 8) > 0 && !solve(system, d, scratch, centroid)) unsolved++
    system += size
    centroid += <usize>d << 2
  }
  store<i32>(field(Field.UNSOLVED) + (<usize>group << 2), unsolved)
}

/** By Cholesky; false where the system is not safely positive definite. */
function solve(system: usize, d: i32, factor: usize, centroid: usize): bool {
  const matrix = system + (<usize>d << 3)
  const x = factor + (<usize>(d * d) << 3)
  for (let i = 0; i < d; i++) {
    const row = factor + (<usize>(i * d) << 3)
    for (let j = 0; j <= i; j++) {
      const other = factor + (<usize>(j * d) << 3)
      const element = load<f64>(matrix + <usize>(triangleAt(j, i, d) << 3))
      let sum = element
      for (let p: usize = 0; p < <usize>j << 3; p += 8) sum -= load<f64>(row + p) * load<f64>(other + p)
      if (i == j) {
        if (!(sum > RANK_TOLERANCE * element)) return false
        sum = Math.sqrt(sum)
      } else {
        sum /= load<f64>(other + (<usize>j << 3))
      }
      store<f64>(row + (<usize>j << 3), sum)
    }
  }
  for (let i = 0; i < d; i++) {
    const row = factor + (<usize>(i * d) << 3)
    let sum = load<f64>(system + (<usize>i << 3))
    for (let p: usize = 0; p < <usize>i << 3; p += 8) sum -= load<f64>(row + p) * load<f64>(x + p)
    store<f64>(x + (<usize>i << 3), sum / load<f64>(row + (<usize>i << 3)))
  }
  for (let i = d - 1; i >= 0; i--) {
    let sum = load<f64>(x + (<usize>i << 3))
    for (let p = i + 1; p < d; p++) {
      sum -= load<f64>(factor + (<usize>(p * d + i) << 3)) * load<f64>(x + (<usize>p << 3))
    }
    sum /= load<f64>(factor + (<usize>(i * d + i) << 3))
    store<f64>(x + (<usize>i << 3), sum)
    store<f32>(centroid + (<usize>i << 2), <f32>sum)
  }
  return true
}
