import { multiplySubtract } from '../simd'

/*
 * The searches go through the rows of 8 columns. `best` holds the least `norm / 2 - y.c` of 8 vectors and its index per
 * row. Indices only rise, so that where a score is less the index becomes the larger of the two.
 */

/**
 * In one dimension the nearest centroid is the same in every metric, so that plain differences decide, which float32
 * holds exactly where it matters. A metric of 0 leaves index 0.
 */
export function search1(
  x: usize,
  rows: i32,
  step: usize,
  centroids: usize,
  count: i32,
  form: usize,
  best: usize,
): void {
  const end = centroids + (<usize>count << 2)
  const one = i32x4.splat(1)
  const leftMask = f32x4.ne(v128.load(form), f32x4.splat(0))
  const rightMask = f32x4.ne(v128.load(form, 16), f32x4.splat(0))
  for (let r = 0; r < rows; r++) {
    const left0 = v128.load(x)
    const right0 = v128.load(x, 16)
    let leftLeast = v128.load(best)
    let rightLeast = v128.load(best, 16)
    let leftIndex = v128.load(best, 32)
    let rightIndex = v128.load(best, 48)
    let index = i32x4.splat(0)
    for (let c = centroids; c < end; c += 4) {
      const value = v128.load_splat<f32>(c)
      const left = f32x4.abs(f32x4.sub(left0, value))
      const right = f32x4.abs(f32x4.sub(right0, value))
      leftIndex = i32x4.max_s(leftIndex, v128.and(f32x4.lt(left, leftLeast), index))
      rightIndex = i32x4.max_s(rightIndex, v128.and(f32x4.lt(right, rightLeast), index))
      leftLeast = f32x4.pmin(leftLeast, left)
      rightLeast = f32x4.pmin(rightLeast, right)
      index = i32x4.add(index, one)
    }
    v128.store(best, leftLeast)
    v128.store(best, rightLeast, 16)
    v128.store(best, v128.and(leftIndex, leftMask), 32)
    v128.store(best, v128.and(rightIndex, rightMask), 48)
    x += step
    best += 64
  }
}

export function search2(
  y: usize,
  plane: usize,
  rows: i32,
  step: usize,
  centroids: usize,
  count: i32,
  norms: usize,
  from: i32,
  best: usize,
): void {
  const end = norms + (<usize>count << 5)
  const one = i32x4.splat(1)
  for (let r = 0; r < rows; r++) {
    const left0 = v128.load(y)
    const right0 = v128.load(y, 16)
    const left1 = v128.load(y + plane)
    const right1 = v128.load(y + plane, 16)
    let leftLeast = v128.load(best)
    let rightLeast = v128.load(best, 16)
    let leftIndex = v128.load(best, 32)
    let rightIndex = v128.load(best, 48)
    let index = i32x4.splat(from)
    let c = centroids
    for (let norm = norms; norm < end; norm += 32) {
      let value = v128.load_splat<f32>(c)
      let left = multiplySubtract(left0, value, v128.load(norm))
      let right = multiplySubtract(right0, value, v128.load(norm, 16))
      value = v128.load_splat<f32>(c, 4)
      left = multiplySubtract(left1, value, left)
      right = multiplySubtract(right1, value, right)
      leftIndex = i32x4.max_s(leftIndex, v128.and(f32x4.lt(left, leftLeast), index))
      rightIndex = i32x4.max_s(rightIndex, v128.and(f32x4.lt(right, rightLeast), index))
      leftLeast = f32x4.pmin(leftLeast, left)
      rightLeast = f32x4.pmin(rightLeast, right)
      index = i32x4.add(index, one)
      c += 8
    }
    v128.store(best, leftLeast)
    v128.store(best, rightLeast, 16)
    v128.store(best, leftIndex, 32)
    v128.store(best, rightIndex, 48)
    y += step
    best += 64
  }
}

/** 4 vectors at a time: 8 of them do not fit the registers. */
export function search4(
  y: usize,
  plane: usize,
  rows: i32,
  step: usize,
  centroids: usize,
  count: i32,
  norms: usize,
  from: i32,
  best: usize,
): void {
  const one = i32x4.splat(1)
  for (let r = 0; r < 2 * rows; r++) {
    const y0 = v128.load(y)
    const y1 = v128.load(y + plane)
    const y2 = v128.load(y + 2 * plane)
    const y3 = v128.load(y + 3 * plane)
    let least = v128.load(best)
    let leastIndex = v128.load(best, 32)
    let index = i32x4.splat(from)
    let c = centroids
    const half = <usize>(r & 1) << 4
    const end = norms + half + (<usize>count << 5)
    for (let norm = norms + half; norm < end; norm += 32) {
      let score = multiplySubtract(y0, v128.load_splat<f32>(c), v128.load(norm))
      score = multiplySubtract(y1, v128.load_splat<f32>(c, 4), score)
      score = multiplySubtract(y2, v128.load_splat<f32>(c, 8), score)
      score = multiplySubtract(y3, v128.load_splat<f32>(c, 12), score)
      leastIndex = i32x4.max_s(leastIndex, v128.and(f32x4.lt(score, least), index))
      least = f32x4.pmin(least, score)
      index = i32x4.add(index, one)
      c += 16
    }
    v128.store(best, least)
    v128.store(best, leastIndex, 32)
    y += half ? step - 16 : 16
    best += half ? 48 : 16
  }
}

export function searchAny(
  y: usize,
  plane: usize,
  d: i32,
  rows: i32,
  step: usize,
  centroids: usize,
  count: i32,
  norms: usize,
  from: i32,
  best: usize,
): void {
  const end = norms + (<usize>count << 5)
  for (let r = 0; r < rows; r++) {
    let leftLeast = v128.load(best)
    let rightLeast = v128.load(best, 16)
    let leftIndex = v128.load(best, 32)
    let rightIndex = v128.load(best, 48)
    let index = i32x4.splat(from)
    let c = centroids
    for (let norm = norms; norm < end; norm += 32) {
      let left = v128.load(norm)
      let right = v128.load(norm, 16)
      let from = y
      for (let a = 0; a < d; a++) {
        const value = v128.load_splat<f32>(c)
        left = multiplySubtract(v128.load(from), value, left)
        right = multiplySubtract(v128.load(from, 16), value, right)
        from += plane
        c += 4
      }
      leftIndex = i32x4.max_s(leftIndex, v128.and(f32x4.lt(left, leftLeast), index))
      rightIndex = i32x4.max_s(rightIndex, v128.and(f32x4.lt(right, rightLeast), index))
      leftLeast = f32x4.pmin(leftLeast, left)
      rightLeast = f32x4.pmin(rightLeast, right)
      index = i32x4.add(index, i32x4.splat(1))
    }
    v128.store(best, leftLeast)
    v128.store(best, rightLeast, 16)
    v128.store(best, leftIndex, 32)
    v128.store(best, rightIndex, 48)
    y += step
    best += 64
  }
}
