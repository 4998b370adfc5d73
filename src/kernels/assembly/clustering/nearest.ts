import { multiplyAdd } from '../simd'

/**
 * The nearest centroid of one vector: the least `norm - 2 y . c` of a codebook whose coordinates lie one after the
 * other (d arrays of `padded` values, four centroids to a SIMD register). What pads a codebook has infinite norms.
 */

/** Centroids of a codebook, padded to whole registers. */
// @ts-expect-error: decorator
@inline
export function paddedCentroids(k: i32): i32 {
  return (k + 3) & ~3
}

/** Copies a codebook (k x d) at `from` into coordinates, d x padded, at `to`. */
export function spreadCodebook(from: usize, k: i32, d: i32, to: usize): void {
  const padded = paddedCentroids(k)
  for (let a = 0; a < d; a++) {
    let source = from + <usize>a * 4
    for (let j = 0; j < padded; j++) {
      store<f32>(to, j < k ? load<f32>(source) : 0)
      source += <usize>d * 4
      to += 4
    }
  }
}

/** `c^T M c` of every centroid for a symmetric d x d float32 metric; infinite where the codebook is padded. */
export function measureCentroids(coordinates: usize, k: i32, d: i32, metric: usize, norms: usize): void {
  const padded = paddedCentroids(k)
  const row = <usize>padded * 4
  for (let j: usize = 0; j < row; j += 16) {
    let norm = f32x4.splat(0)
    for (let a = 0; a < d; a++) {
      const c = v128.load(coordinates + <usize>a * row + j)
      let sum = f32x4.mul(v128.load_splat<f32>(metric + <usize>(a * d + a) * 4), c)
      // each pair twice: the metric is symmetric
      for (let b = a + 1; b < d; b++) {
        const m = v128.load_splat<f32>(metric + <usize>(a * d + b) * 4)
        sum = multiplyAdd(f32x4.add(m, m), v128.load(coordinates + <usize>b * row + j), sum)
      }
      norm = multiplyAdd(c, sum, norm)
    }
    v128.store(norms + j, norm)
  }
  for (let j = k; j < padded; j++) store<f32>(norms + <usize>j * 4, Infinity)
}

/** The index of the nearest centroid; `y` holds the projected vector times -2, d floats. The lowest index wins ties. */
// @ts-expect-error: decorator
@inline
export function nearestCentroid(y: usize, d: i32, coordinates: usize, padded: i32, norms: usize): i32 {
  if (d == 2) return nearest2(y, coordinates, padded, norms)
  if (d == 1) return nearest1(y, coordinates, padded, norms)
  return nearest4(y, coordinates, padded, norms)
}

function nearest1(y: usize, coordinates: usize, padded: i32, norms: usize): i32 {
  const y0 = v128.load_splat<f32>(y)
  let least = f32x4.splat(Infinity)
  let best = i32x4.splat(0)
  let index = i32x4(0, 1, 2, 3)
  const four = i32x4.splat(4)
  const end = norms + <usize>padded * 4
  while (norms < end) {
    const score = multiplyAdd(y0, v128.load(coordinates), v128.load(norms))
    best = v128.bitselect(index, best, f32x4.lt(score, least))
    least = f32x4.pmin(least, score)
    index = i32x4.add(index, four)
    coordinates += 16
    norms += 16
  }
  return lowest(least, best)
}

function nearest2(y: usize, coordinates: usize, padded: i32, norms: usize): i32 {
  const y0 = v128.load_splat<f32>(y)
  const y1 = v128.load_splat<f32>(y, 4)
  const row = <usize>padded * 4
  let least = f32x4.splat(Infinity)
  let best = i32x4.splat(0)
  let index = i32x4(0, 1, 2, 3)
  const four = i32x4.splat(4)
  const end = norms + row
  while (norms < end) {
    let score = multiplyAdd(y0, v128.load(coordinates), v128.load(norms))
    score = multiplyAdd(y1, v128.load(coordinates + row), score)
    best = v128.bitselect(index, best, f32x4.lt(score, least))
    least = f32x4.pmin(least, score)
    index = i32x4.add(index, four)
    coordinates += 16
    norms += 16
  }
  return lowest(least, best)
}

function nearest4(y: usize, coordinates: usize, padded: i32, norms: usize): i32 {
  const y0 = v128.load_splat<f32>(y)
  const y1 = v128.load_splat<f32>(y, 4)
  const y2 = v128.load_splat<f32>(y, 8)
  const y3 = v128.load_splat<f32>(y, 12)
  const row = <usize>padded * 4
  let least = f32x4.splat(Infinity)
  let best = i32x4.splat(0)
  let index = i32x4(0, 1, 2, 3)
  const four = i32x4.splat(4)
  const end = norms + row
  while (norms < end) {
    let score = multiplyAdd(y0, v128.load(coordinates), v128.load(norms))
    score = multiplyAdd(y1, v128.load(coordinates + row), score)
    score = multiplyAdd(y2, v128.load(coordinates + 2 * row), score)
    score = multiplyAdd(y3, v128.load(coordinates + 3 * row), score)
    best = v128.bitselect(index, best, f32x4.lt(score, least))
    least = f32x4.pmin(least, score)
    index = i32x4.add(index, four)
    coordinates += 16
    norms += 16
  }
  return lowest(least, best)
}

/** The index that goes with the least of four scores, the lowest of those that share it. */
// @ts-expect-error: decorator
@inline
function lowest(least: v128, best: v128): i32 {
  let other = i8x16.shuffle(least, least, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
  let smallest = f32x4.pmin(least, other)
  other = i8x16.shuffle(smallest, smallest, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
  smallest = f32x4.pmin(smallest, other)
  // lanes that do not hold the least count as the largest index; unsigned, so that all ones is that
  let index = v128.or(best, v128.not(f32x4.eq(least, smallest)))
  index = i32x4.min_u(index, i8x16.shuffle(index, index, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7))
  index = i32x4.min_u(index, i8x16.shuffle(index, index, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11))
  return i32x4.extract_lane(index, 0)
}

/** `-2 M x` in float32. */
// @ts-expect-error: decorator
@inline
export function project(metric: usize, x: usize, d: i32, y: usize): void {
  for (let a = 0; a < d; a++) {
    let sum: f32 = 0
    for (let b = 0; b < d; b++) sum += load<f32>(metric + <usize>(a * d + b) * 4) * load<f32>(x + <usize>b * 4)
    store<f32>(y + <usize>a * 4, -2 * sum)
  }
}

/** Divides d floats by a scale. */
// @ts-expect-error: decorator
@inline
export function divide(y: usize, scale: f32, d: i32): void {
  for (let a: usize = 0; a < <usize>d << 2; a += 4) store<f32>(y + a, load<f32>(y + a) / scale)
}
