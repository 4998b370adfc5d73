import { multiplyAdd } from '../simd'

/**
 * One row of the Viterbi algorithm. All that the row below sees of a key is its class, the key without its upper w bits.
 * So what is kept of a row are the least sums of its 2^(L-w) classes, never those of its 2^L keys:
 *
 *     least[v] = min over t of above[key >> w] + s^2 c^T M c + y c,   key = t 2^(L-w) + v,   c = centroids[key]
 *
 * where `above` are the minima of the row above, `s` is the row's scale and `y = -2 s M x`; what all keys have in common
 * is left out. Which t was the best is found again on the way back, on the one path that matters.
 *
 * Norms and centroids lie in the order in which they are read: by strips of {@link lanesOf} consecutive classes, in a
 * strip by t, and there the strip's norms, then each coordinate of its centroids. With four classes or fewer in all, the
 * lanes that lack have infinite norms.
 */

/** Bytes of what a row weighs keys by: y (4 floats), s^2, and what is taken from its minima so that they stay small. */
export const ROW_BYTES: usize = 32
export const SQUARE: usize = 16
export const SHIFT: usize = 20

/** Classes of a strip: all of them have the same class above for a given t (with w = 1, two and two). */
// @ts-expect-error: decorator
@inline
export function lanesOf(w: i32, classes: i32): i32 {
  // eight, and one t at a time: more sums than that leave V8 without registers, four are a fifth slower
  return w >= 3 && classes >= 8 ? 8 : 4
}

/** Classes with those that fill the last register up. */
// @ts-expect-error: decorator
@inline
export function paddedClasses(classes: i32): i32 {
  return max(classes, 4)
}

/** Puts a codebook (2^L x d) in the order of the sweep, without norms. */
export function packCentroids(codebook: usize, d: i32, w: i32, classes: i32, to: usize): void {
  const lanes = lanesOf(w, classes)
  for (let first = 0; first < classes; first += lanes) {
    for (let t = 0; t < 1 << w; t++) {
      for (let a = -1; a < d; a++) {
        for (let lane = 0; lane < lanes; lane++) {
          const key = t * classes + first + lane
          const has = a >= 0 && first + lane < classes
          store<f32>(to, has ? load<f32>(codebook + (<usize>(key * d + a) << 2)) : 0)
          to += 4
        }
      }
    }
  }
}

/** Writes `c^T M c` of all packed centroids; `metric` is d x d, symmetric. */
export function measureKeys(packed: usize, d: i32, w: i32, classes: i32, metric: usize): void {
  const bytes = <usize>lanesOf(w, classes) << 2
  const end = packed + (<usize>(paddedClasses(classes) << w) << 2) * <usize>(d + 1)
  for (let block = packed; block < end; block += bytes * <usize>(d + 1)) {
    for (let at = block; at < block + bytes; at += 16) {
      let norm = f32x4.splat(0)
      for (let a = 0; a < d; a++) {
        const c = v128.load(at + <usize>(a + 1) * bytes)
        let sum = f32x4.mul(v128.load_splat<f32>(metric + (<usize>(a * d + a) << 2)), c)
        // each pair twice: the metric is symmetric
        for (let b = a + 1; b < d; b++) {
          const m = v128.load_splat<f32>(metric + (<usize>(a * d + b) << 2))
          sum = multiplyAdd(f32x4.add(m, m), v128.load(at + <usize>(b + 1) * bytes), sum)
        }
        norm = multiplyAdd(c, sum, norm)
      }
      v128.store(at, norm)
    }
    for (let lane = classes; lane < 4; lane++) store<f32>(block + (<usize>lane << 2), Infinity)
  }
}

/** Writes the minima of a row, and what they are less by to the row below. */
export function sweep(d: i32, w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  if (lanesOf(w, classes) == 8) {
    // with fewer classes above than indices, some t have the same class above
    if (classes >>> w) {
      if (d == 2) return sweepEights2(w, classes, packed, row, above, least)
      if (d == 1) return sweepEights1(w, classes, packed, row, above, least)
      return sweepEights4(w, classes, packed, row, above, least)
    }
    if (d == 2) return sweepFewEights2(w, classes, packed, row, above, least)
    if (d == 1) return sweepFewEights1(w, classes, packed, row, above, least)
    return sweepFewEights4(w, classes, packed, row, above, least)
  }
  if (d == 2) return sweepFours2(w, classes, packed, row, above, least)
  if (d == 1) return sweepFours1(w, classes, packed, row, above, least)
  return sweepFours4(w, classes, packed, row, above, least)
}

function sweepEights1(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepEights(1, true, w, classes, packed, row, above, least)
}

function sweepEights2(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepEights(2, true, w, classes, packed, row, above, least)
}

function sweepEights4(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepEights(4, true, w, classes, packed, row, above, least)
}

function sweepFewEights1(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepEights(1, false, w, classes, packed, row, above, least)
}

function sweepFewEights2(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepEights(2, false, w, classes, packed, row, above, least)
}

function sweepFewEights4(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepEights(4, false, w, classes, packed, row, above, least)
}

/** For strips of eight. `isStepped`: the class above moves on with every t. */
// @ts-expect-error: decorator
@inline
function sweepEights(
  d: i32,
  isStepped: bool,
  w: i32,
  classes: i32,
  at: usize,
  row: usize,
  above: usize,
  least: usize,
): void {
  const y0 = v128.load_splat<f32>(row)
  const y1 = v128.load_splat<f32>(row, 4)
  const y2 = v128.load_splat<f32>(row, 8)
  const y3 = v128.load_splat<f32>(row, 12)
  const square = v128.load_splat<f32>(row, 16)
  const shift = v128.load_splat<f32>(row, 20)
  const keys = classes << w
  const step = <usize>(classes >>> w) << 2
  const span = step << w
  let lowest = f32x4.splat(Infinity)
  for (let v = 0; v < classes; v += 8) {
    let from = above + (<usize>(v >>> w) << 2)
    const end = from + span
    let key = v
    let left = f32x4.splat(Infinity)
    let right = f32x4.splat(Infinity)
    do {
      const before = v128.load_splat<f32>(isStepped ? from : above + (<usize>(key >>> w) << 2))
      let sum = multiplyAdd(y0, v128.load(at, 32), multiplyAdd(square, v128.load(at), before))
      if (d > 1) sum = multiplyAdd(y1, v128.load(at, 64), sum)
      if (d > 2) sum = multiplyAdd(y3, v128.load(at, 128), multiplyAdd(y2, v128.load(at, 96), sum))
      left = f32x4.pmin(left, sum)
      sum = multiplyAdd(y0, v128.load(at, 48), multiplyAdd(square, v128.load(at, 16), before))
      if (d > 1) sum = multiplyAdd(y1, v128.load(at, 80), sum)
      if (d > 2) sum = multiplyAdd(y3, v128.load(at, 144), multiplyAdd(y2, v128.load(at, 112), sum))
      right = f32x4.pmin(right, sum)
      at += <usize>(d + 1) << 5
      if (isStepped) from += step
      else key += classes
    } while (isStepped ? from < end : key < keys)
    left = f32x4.sub(left, shift)
    right = f32x4.sub(right, shift)
    v128.store(least, left)
    v128.store(least, right, 16)
    lowest = f32x4.pmin(lowest, f32x4.pmin(left, right))
    least += 32
  }
  storeLowest(row, lowest)
}

function sweepFours1(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepFours(1, w, classes, packed, row, above, least)
}

function sweepFours2(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepFours(2, w, classes, packed, row, above, least)
}

function sweepFours4(w: i32, classes: i32, packed: usize, row: usize, above: usize, least: usize): void {
  sweepFours(4, w, classes, packed, row, above, least)
}

// @ts-expect-error: decorator
@inline
function sweepFours(d: i32, w: i32, classes: i32, at: usize, row: usize, above: usize, least: usize): void {
  const y0 = v128.load_splat<f32>(row)
  const y1 = v128.load_splat<f32>(row, 4)
  const y2 = v128.load_splat<f32>(row, 8)
  const y3 = v128.load_splat<f32>(row, 12)
  const square = v128.load_splat<f32>(row, 16)
  const shift = v128.load_splat<f32>(row, 20)
  const keys = classes << w
  const isPaired = w == 1 && classes >= 4
  let lowest = f32x4.splat(Infinity)
  for (let v = 0; v < classes; v += 4) {
    let best = f32x4.splat(Infinity)
    for (let key = v; key < keys; key += classes) {
      const from = above + (<usize>(key >>> w) << 2)
      let before: v128
      if (isPaired) {
        before = v128.load64_zero(from)
        before = v128.shuffle<f32>(before, before, 0, 0, 1, 1)
      } else before = v128.load_splat<f32>(from)
      let sum = multiplyAdd(y0, v128.load(at, 16), multiplyAdd(square, v128.load(at), before))
      if (d > 1) sum = multiplyAdd(y1, v128.load(at, 32), sum)
      if (d > 2) sum = multiplyAdd(y3, v128.load(at, 64), multiplyAdd(y2, v128.load(at, 48), sum))
      best = f32x4.pmin(best, sum)
      at += <usize>(d + 1) << 4
    }
    best = f32x4.sub(best, shift)
    v128.store(least, best)
    lowest = f32x4.pmin(lowest, best)
    least += 16
  }
  storeLowest(row, lowest)
}

/** The least of a row's minima is taken from those of the row below. */
// @ts-expect-error: decorator
@inline
function storeLowest(row: usize, lowest: v128): void {
  lowest = f32x4.pmin(lowest, v128.shuffle<f32>(lowest, lowest, 2, 3, 0, 1))
  lowest = f32x4.pmin(lowest, v128.shuffle<f32>(lowest, lowest, 1, 0, 3, 2))
  v128.store_lane<f32>(row, lowest, 0, 52)
}

/** The key that the minimum of class `v` came from, the lowest of those that share it: the sums of `sweep` again. */
export function leastKey(v: i32, d: i32, w: i32, classes: i32, packed: usize, row: usize, above: usize): i32 {
  const bytes = <usize>lanesOf(w, classes) << 2
  const lane = <usize>v & ((bytes >> 2) - 1)
  const block = bytes * <usize>(d + 1)
  // the register of four lanes that has the class in it, and which of them
  const at = packed + ((((<usize>v - lane) << w) << 2) * <usize>(d + 1) + ((lane & ~3) << 2))
  if (d == 2) return leastKey2(v, <i32>lane & 3, w, classes, at, bytes, block, row, above)
  if (d == 1) return leastKey1(v, <i32>lane & 3, w, classes, at, bytes, block, row, above)
  return leastKey4(v, <i32>lane & 3, w, classes, at, bytes, block, row, above)
}

function leastKey1(v: i32, lane: i32, w: i32, classes: i32, at: usize, bytes: usize, block: usize, row: usize, above: usize): i32 {
  return leastOfKeys(1, v, lane, w, classes, at, bytes, block, row, above)
}

function leastKey2(v: i32, lane: i32, w: i32, classes: i32, at: usize, bytes: usize, block: usize, row: usize, above: usize): i32 {
  return leastOfKeys(2, v, lane, w, classes, at, bytes, block, row, above)
}

function leastKey4(v: i32, lane: i32, w: i32, classes: i32, at: usize, bytes: usize, block: usize, row: usize, above: usize): i32 {
  return leastOfKeys(4, v, lane, w, classes, at, bytes, block, row, above)
}

// @ts-expect-error: decorator
@inline
function leastOfKeys(
  d: i32,
  v: i32,
  lane: i32,
  w: i32,
  classes: i32,
  at: usize,
  bytes: usize,
  block: usize,
  row: usize,
  above: usize,
): i32 {
  const y0 = v128.load_splat<f32>(row)
  const y1 = v128.load_splat<f32>(row, 4)
  const y2 = v128.load_splat<f32>(row, 8)
  const y3 = v128.load_splat<f32>(row, 12)
  const square = v128.load_splat<f32>(row, 16)
  const keys = classes << w
  let least = f32x4.splat(Infinity)
  let best = i32x4.splat(v)
  for (let key = v; key < keys; key += classes) {
    let sum = multiplyAdd(square, v128.load(at), v128.load_splat<f32>(above + (<usize>(key >>> w) << 2)))
    sum = multiplyAdd(y0, v128.load(at + bytes), sum)
    if (d > 1) sum = multiplyAdd(y1, v128.load(at + 2 * bytes), sum)
    if (d > 2) {
      sum = multiplyAdd(y2, v128.load(at + 3 * bytes), sum)
      sum = multiplyAdd(y3, v128.load(at + 4 * bytes), sum)
    }
    best = v128.bitselect(i32x4.splat(key), best, f32x4.lt(sum, least))
    least = f32x4.pmin(least, sum)
    at += block
  }
  if (lane == 0) return i32x4.extract_lane(best, 0)
  if (lane == 1) return i32x4.extract_lane(best, 1)
  if (lane == 2) return i32x4.extract_lane(best, 2)
  return i32x4.extract_lane(best, 3)
}
