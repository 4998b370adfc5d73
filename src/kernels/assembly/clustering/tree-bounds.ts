import { multiplyAdd } from '../simd'
import { arrayOf, FAN, LEAF, Shape, shapeOf } from './tree'

/**
 * What one metric M makes of a tree: the norm of every centroid, and for every node the box around its centroids after
 * the transform `L^T c`, `L L^T` being M. A vector x is at least as far from each of them as `L^T x` is from the box:
 * scores are `norm + y . c`, so that `score + energy`, the energy that of x, is a squared distance.
 *
 * All of this is float32, and no centroid may be skipped whose score as computed is the least. ROUNDING times the
 * absolute sum of the metric times the square of the largest coordinate, of the vector and of the centroid, is more than
 * all roundings together can make of a score, less than 40 of 2^-24. The transform's own rounding widens the boxes, and
 * in the vector it is covered by LOOSENING. The ridge on the diagonal keeps L real where rounding made M indefinite.
 */
export const ROUNDING: f32 = 3.814697265625e-6 // 2^-18
export const LOOSENING: f32 = 1.004
const RIDGE: f64 = 4.76837158203125e-7 // 2^-21
/** Share of a transformed coordinate's largest possible value by which it may be off. */
const TRANSFORM_ROUNDING: f32 = 9.5367431640625e-7 // 2^-20

/** Bytes of 4 nodes: what their scores start from, then least and largest coordinates, dimension by dimension. */
// @ts-expect-error: decorator
@inline
export function groupBytes(d: i32): usize {
  return <usize>(2 * d + 1) << 4
}

/** Norms come first. */
// @ts-expect-error: decorator
@inline
export function boxesOf(shape: usize, bounds: usize): usize {
  return bounds + (<usize>(shapeOf(shape, Shape.LEAVES) * LEAF) << 2)
}

/** Sum of the absolute values of a form: the upper triangle of a metric, off the diagonal doubled. */
export function sizeOfForm(form: usize, d: i32): f32 {
  let sum: f32 = 0
  for (let t = 0; t < (d * (d + 1)) >> 1; t++) sum += abs(load<f32>(form + (<usize>t << 2)))
  return sum
}

/** Half of `c^T M c` from products of coordinates, in the order of `halfNorms` in clustering.ts: the same bits. */
export function halfNormsOfTree(shape: usize, tree: usize, form: usize, norms: usize): void {
  const d = shapeOf(shape, Shape.DIMENSIONS)
  const triangle = (d * (d + 1)) >> 1
  let product = arrayOf(shape, tree, Shape.PRODUCTS)
  const end = boxesOf(shape, norms)
  for (let to = norms; to < end; to += 32) {
    let left = f32x4.splat(0)
    let right = f32x4.splat(0)
    for (let t = 0; t < triangle; t++) {
      const q = v128.load_splat<f32>(form + (<usize>t << 2))
      left = multiplyAdd(v128.load(product), q, left)
      right = multiplyAdd(v128.load(product, 16), q, right)
      product += 32
    }
    v128.store(to, left)
    v128.store(to, right, 16)
  }
  closeNorms(shape, norms)
}

/** `c^T M c` in the order of `measureCentroids` in nearest.ts: the same bits. */
export function normsOfTree(shape: usize, tree: usize, form: usize, norms: usize): void {
  const d = shapeOf(shape, Shape.DIMENSIONS)
  let at = arrayOf(shape, tree, Shape.COORDINATES)
  const end = boxesOf(shape, norms)
  for (let to = norms; to < end; to += 32) {
    v128.store(to, quadratic(at, form, d))
    v128.store(to, quadratic(at + 16, form, d), 16)
    at += <usize>d << 5
  }
  closeNorms(shape, norms)
}

// @ts-expect-error: decorator
@inline
function quadratic(at: usize, form: usize, d: i32): v128 {
  let sum = f32x4.splat(0)
  for (let a: usize = 0; a < <usize>d; a++) {
    const c = v128.load(at + (a << 5))
    let inner = f32x4.mul(v128.load_splat<f32>(form), c)
    form += 4
    for (let b = a + 1; b < <usize>d; b++) {
      inner = multiplyAdd(v128.load_splat<f32>(form), v128.load(at + (b << 5)), inner)
      form += 4
    }
    sum = multiplyAdd(c, inner, sum)
  }
  return sum
}

/** What fills up leaves is never the nearest. */
function closeNorms(shape: usize, norms: usize): void {
  const end = boxesOf(shape, norms)
  for (let at = norms + (<usize>shapeOf(shape, Shape.CENTROIDS) << 2); at < end; at += 4) store<f32>(at, Infinity)
}

/**
 * `L` of a form as d rows of 4 floats, zeros above the diagonal, with `L L^T` the metric times `factor` plus the ridge.
 *
 * @param exact scratch for d x d float64
 */
export function factorForm(form: usize, d: i32, factor: f64, rows: usize, exact: usize): void {
  memory.fill(rows, 0, <usize>d << 4)
  let t = form
  for (let j = 0; j < d; j++) {
    for (let i = j; i < d; i++) {
      let sum = factor * <f64>load<f32>(t) * (i == j ? 1 + RIDGE : 0.5)
      t += 4
      for (let p = 0; p < j; p++) sum -= exactAt(exact, i, p, d) * exactAt(exact, j, p, d)
      if (i == j) sum = Math.sqrt(max<f64>(sum, 0))
      else if (exactAt(exact, j, j, d) > 0) sum /= exactAt(exact, j, j, d)
      else sum = 0
      store<f64>(exact + (<usize>(i * d + j) << 3), sum)
      store<f32>(rows + (<usize>(i * 4 + j) << 2), <f32>sum)
    }
  }
}

// @ts-expect-error: decorator
@inline
function exactAt(exact: usize, i: i32, j: i32, d: i32): f64 {
  return load<f64>(exact + (<usize>(i * d + j) << 3))
}

/** Boxes of all nodes for the transform of `rows`, {@link factorForm}; `size` is that of the form. */
export function boxNodes(shape: usize, tree: usize, rows: usize, size: f32, bounds: usize): void {
  if (shapeOf(shape, Shape.DIMENSIONS) == 2) boxLeaves2(shape, tree, rows, size, bounds)
  else boxLeaves4(shape, tree, rows, size, bounds)
  for (let level = 1; level < shapeOf(shape, Shape.LEVELS); level++) joinBoxes(shape, level, bounds)
  closeBoxes(shape, bounds)
}

function boxLeaves2(shape: usize, tree: usize, rows: usize, size: f32, bounds: usize): void {
  boxLeaves(shape, tree, rows, size, bounds, 2)
}

function boxLeaves4(shape: usize, tree: usize, rows: usize, size: f32, bounds: usize): void {
  boxLeaves(shape, tree, rows, size, bounds, 4)
}

/** Boxes of 4 leaves at a time; one coordinate of the transform after the other, so that registers suffice. */
// @ts-expect-error: decorator
@inline
function boxLeaves(shape: usize, tree: usize, rows: usize, size: f32, bounds: usize, d: i32): void {
  let stripe = arrayOf(shape, tree, Shape.STRIPES)
  let reach = arrayOf(shape, tree, Shape.REACHES)
  let to = boxesOf(shape, bounds)
  const end = to + <usize>(shapeOf(shape, Shape.LEAVES) >> 2) * groupBytes(d)
  const widening = f32x4.splat(TRANSFORM_ROUNDING * sqrt<f32>(size))
  for (; to < end; to += groupBytes(d)) {
    const square = v128.load(reach)
    const margin = f32x4.mul(widening, f32x4.sqrt(square))
    v128.store(to, f32x4.mul(f32x4.splat(-ROUNDING * size), square))
    for (let b: usize = 0; b < <usize>d; b++) {
      let least = f32x4.splat(Infinity)
      let most = f32x4.splat(-Infinity)
      for (let i: usize = 0; i < <usize>LEAF; i++) {
        const at = stripe + ((i * <usize>d) << 4)
        let value = f32x4.mul(v128.load_splat<f32>(rows + (b << 4) + (b << 2)), v128.load(at + (b << 4)))
        for (let a = b + 1; a < <usize>d; a++) {
          value = multiplyAdd(v128.load_splat<f32>(rows + (a << 4) + (b << 2)), v128.load(at + (a << 4)), value)
        }
        least = f32x4.pmin(least, value)
        most = f32x4.pmax(most, value)
      }
      v128.store(to + (b << 5), f32x4.sub(least, margin), 16)
      v128.store(to + (b << 5), f32x4.add(most, margin), 32)
    }
    stripe += <usize>(LEAF * d) << 4
    reach += 16
  }
}

/** Boxes of the nodes of a level above the leaves, each around 4. */
function joinBoxes(shape: usize, level: i32, bounds: usize): void {
  const d = shapeOf(shape, Shape.DIMENSIONS)
  const bytes = groupBytes(d)
  const boxes = boxesOf(shape, bounds)
  let child = boxes + <usize>shapeOf(shape, Shape.STARTS + level - 1) * bytes
  const first = boxes + <usize>shapeOf(shape, Shape.STARTS + level) * bytes
  for (let node = 0; child < first; node++) {
    const to = first + <usize>(node / FAN) * bytes + (<usize>(node % FAN) << 2)
    store<f32>(to, leastOf(v128.load(child)))
    for (let at: usize = 16; at < bytes; at += 32) {
      store<f32>(to + at, leastOf(v128.load(child + at)))
      store<f32>(to + at, -leastOf(f32x4.neg(v128.load(child + at, 16))), 16)
    }
    child += bytes
  }
}

// @ts-expect-error: decorator
@inline
function leastOf(values: v128): f32 {
  const pairs = f32x4.pmin(values, v128.shuffle<f32>(values, values, 2, 3, 0, 1))
  return min(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1))
}

/** What fills up a level is beyond all reach. */
function closeBoxes(shape: usize, bounds: usize): void {
  const bytes = groupBytes(shapeOf(shape, Shape.DIMENSIONS))
  const boxes = boxesOf(shape, bounds)
  let nodes = (shapeOf(shape, Shape.CENTROIDS) + LEAF - 1) / LEAF
  for (let level = 0; level < shapeOf(shape, Shape.LEVELS); level++) {
    const start = shapeOf(shape, Shape.STARTS + level)
    const end = level + 1 < shapeOf(shape, Shape.LEVELS) ? shapeOf(shape, Shape.STARTS + level + 1) : shapeOf(shape, Shape.GROUPS)
    for (let node = nodes; node < (end - start) * FAN; node++) {
      store<f32>(boxes + <usize>(start + node / FAN) * bytes + (<usize>(node % FAN) << 2), Infinity)
    }
    nodes = (nodes + FAN - 1) / FAN
  }
}
