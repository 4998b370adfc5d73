import { multiplyAdd } from '../simd'

/** `v^T M v` of 8 vectors `offsets` (d x 8), not below 0; 0 for those from `valid` on. */
// @ts-expect-error: decorator
@inline
export function measure(offsets: usize, d: i32, form: usize, valid: i32, distances: usize): void {
  for (let half: usize = 0; half < 32; half += 16) {
    const v = offsets + half
    const q = form + half
    let sum: v128
    if (d == 1) {
      const v0 = v128.load(v)
      sum = f32x4.mul(f32x4.mul(v128.load(q), v0), v0)
    } else if (d == 2) {
      const v0 = v128.load(v)
      const v1 = v128.load(v, 32)
      const inner = multiplyAdd(v128.load(q, 32), v1, f32x4.mul(v128.load(q), v0))
      sum = multiplyAdd(v0, inner, f32x4.mul(f32x4.mul(v128.load(q, 64), v1), v1))
    } else {
      sum = quadraticForm(v, q, d)
    }
    v128.store(distances + half, f32x4.pmax(f32x4.splat(0), sum))
  }
  for (let lane = valid; lane < 8; lane++) store<f32>(distances + (<usize>lane << 2), 0)
}

function quadraticForm(v: usize, q: usize, d: i32): v128 {
  let sum = f32x4.splat(0)
  for (let a = 0; a < d; a++) {
    let inner = f32x4.splat(0)
    for (let b = a; b < d; b++) {
      inner = multiplyAdd(v128.load(q), v128.load(v + (<usize>b << 5)), inner)
      q += 32
    }
    sum = multiplyAdd(v128.load(v + (<usize>a << 5)), inner, sum)
  }
  return sum
}

/** The same for one vector whose coordinates are `v`, d floats, under column `form`; the same bits. */
// @ts-expect-error: decorator
@inline
export function measureOne(v: usize, d: i32, form: usize): f32 {
  let sum: v128
  if (d == 2) {
    const v0 = v128.load_splat<f32>(v)
    const v1 = v128.load_splat<f32>(v, 4)
    const inner = multiplyAdd(v128.load_splat<f32>(form, 32), v1, f32x4.mul(v128.load_splat<f32>(form), v0))
    sum = multiplyAdd(v0, inner, f32x4.mul(f32x4.mul(v128.load_splat<f32>(form, 64), v1), v1))
  } else {
    sum = f32x4.splat(0)
    for (let a = 0; a < d; a++) {
      let inner = f32x4.splat(0)
      for (let b = a; b < d; b++) {
        inner = multiplyAdd(v128.load_splat<f32>(form), v128.load_splat<f32>(v + (<usize>b << 2)), inner)
        form += 32
      }
      sum = multiplyAdd(v128.load_splat<f32>(v + (<usize>a << 2)), inner, sum)
    }
  }
  return f32x4.extract_lane(f32x4.pmax(f32x4.splat(0), sum), 0)
}

/** Multiplies the distances of 8 vectors by their weights. */
// @ts-expect-error: decorator
@inline
export function weigh(distances: usize, vectorWeights: usize): void {
  for (let half: usize = 0; half < 32; half += 16) {
    v128.store(distances + half, f32x4.mul(v128.load(distances + half), v128.load(vectorWeights + half)))
  }
}

/** Adds 8 distances to as many sums. */
// @ts-expect-error: decorator
@inline
export function addDistances(distances: usize, sums: usize): void {
  for (let pair: usize = 0; pair < 4; pair++) {
    const to = sums + (pair << 4)
    const two = f64x2.promote_low_f32x4(v128.load64_zero(distances + (pair << 3)))
    v128.store(to, f64x2.add(v128.load(to), two))
  }
}

// @ts-expect-error: decorator
@inline
export function weighted(sums: usize, weights: usize): f64 {
  let sum: f64 = 0
  for (let lane: usize = 0; lane < 64; lane += 8) sum += load<f64>(sums + lane) * load<f64>(weights + lane)
  return sum
}
