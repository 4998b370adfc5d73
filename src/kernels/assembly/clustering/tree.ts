/**
 * A codebook cut into a tree, for searches that skip what is too far: leaves of 8 centroids near each other, nodes of 4
 * leaves, nodes of 4 such nodes. `wasm/tree-shape.ts` says where everything lies. Which centroids share a leaf changes
 * how much a search skips, never what it finds.
 */

/** Centroids of a leaf, and children of every other node. */
export const LEAF: i32 = 8
export const FAN: i32 = 4

/** The table that describes a tree, integers; the arrays are byte offsets from where a tree starts. */
export const enum Shape {
  CENTROIDS,
  DIMENSIONS,
  LEVELS,
  /** Leaves, and groups of 4 nodes of all levels, what fills up the tree included. */
  LEAVES,
  GROUPS,
  /** First group of each level, leaves first. */
  STARTS,
  /** Per leaf, 8 numbers of centroids; those that fill it up are MOST. */
  NUMBERS = STARTS + 6,
  /** Per centroid, its leaf (16 bits). */
  LEAF_OF,
  /** Per leaf, d x 8 coordinates. */
  COORDINATES,
  /** Per 4 leaves, 8 x d x 4: the coordinates once more, side by side for the 4. */
  STRIPES,
  /** Per node, the square of its largest coordinate. */
  REACHES,
  /** Per leaf, upper triangle x 8: half the products of coordinates. */
  PRODUCTS,
}

/** The number of what fills up a leaf. */
export const MOST: i32 = 0x7fffffff

// @ts-expect-error: decorator
@inline
export function shapeOf(shape: usize, name: i32): i32 {
  return load<i32>(shape + (<usize>name << 2))
}

// @ts-expect-error: decorator
@inline
export function arrayOf(shape: usize, tree: usize, name: i32): usize {
  return tree + load<usize>(shape + (<usize>name << 2))
}

/**
 * Builds the tree of a codebook (k x d) less `centre` (0: nothing is taken off). It is split where it is widest after the
 * transform by `factor`, d x d: a lower triangle L with `L L^T` the mean metric.
 *
 * @param hasProducts whether PRODUCTS are wanted
 * @param scratch k x d floats
 */
export function plantTree(
  shape: usize,
  tree: usize,
  codebook: usize,
  centre: usize,
  factor: usize,
  hasProducts: bool,
  scratch: usize,
): void {
  const k = shapeOf(shape, Shape.CENTROIDS)
  const d = shapeOf(shape, Shape.DIMENSIONS)
  const numbers = arrayOf(shape, tree, Shape.NUMBERS)
  const plane = <usize>k << 2
  transform(codebook, centre, factor, k, d, scratch)
  for (let j = 0; j < k; j++) store<i32>(numbers + (<usize>j << 2), j)
  split(numbers, 0, k, LEAF, scratch, plane, d)
  fillLeaves(shape, tree, codebook, centre)
  if (hasProducts) multiplyCoordinates(shape, tree)
  reachOfNodes(shape, tree)
}

/** `L^T (c - centre)` of a codebook, dimension by dimension. */
function transform(codebook: usize, centre: usize, factor: usize, k: i32, d: i32, to: usize): void {
  for (let b = 0; b < d; b++) {
    for (let j = 0; j < k; j++) {
      let sum: f32 = 0
      for (let a = b; a < d; a++) {
        sum += load<f32>(factor + (<usize>(a * d + b) << 2)) * coordinate(codebook, centre, j, a, d)
      }
      store<f32>(to, sum)
      to += 4
    }
  }
}

// @ts-expect-error: decorator
@inline
function coordinate(codebook: usize, centre: usize, j: i32, a: i32, d: i32): f32 {
  const value = load<f32>(codebook + (<usize>(j * d + a) << 2))
  return centre ? value - load<f32>(centre + (<usize>a << 2)) : value
}

/**
 * Sorts `numbers` from `from` to `to` into leaves of `leaf`, so that each node's leaves lie one after the other. Keys lie
 * dimension by dimension, `plane` bytes each.
 */
export function split(numbers: usize, from: i32, to: i32, leaf: i32, keys: usize, plane: usize, d: i32): void {
  while (to - from > leaf) {
    let axis = keys
    let widest: f64 = -1
    for (let a = 0; a < d; a++) {
      const width = varianceAlong(numbers, from, to, keys + <usize>a * plane)
      if (width > widest) {
        widest = width
        axis = keys + <usize>a * plane
      }
    }
    let unit = leaf
    while (unit * FAN < to - from) unit *= FAN
    const units = (to - from + unit - 1) / unit
    const middle = from + unit * (units >> 1)
    select(numbers, from, to - 1, middle, axis)
    split(numbers, from, middle, leaf, keys, plane, d)
    from = middle
  }
}

/** The variance of about 256 of the keys, times their number. */
function varianceAlong(numbers: usize, from: i32, to: i32, keys: usize): f64 {
  const step = ((to - from) >> 8) + 1
  let sum: f64 = 0
  let squares: f64 = 0
  let count: f64 = 0
  for (let i = from; i < to; i += step) {
    const key = <f64>keyAt(numbers, i, keys)
    sum += key
    squares += key * key
    count++
  }
  return squares - (sum * sum) / count
}

// @ts-expect-error: decorator
@inline
function keyAt(numbers: usize, i: i32, keys: usize): f32 {
  return load<f32>(keys + (<usize>load<i32>(numbers + (<usize>i << 2)) << 2))
}

/** Puts `numbers` so that none before `middle` has a larger key than any from there on. */
function select(numbers: usize, from: i32, to: i32, middle: i32, keys: usize): void {
  while (from < to) {
    const pivot = keyAt(numbers, (from + to) >> 1, keys)
    let i = from
    let j = to
    while (i <= j) {
      while (keyAt(numbers, i, keys) < pivot) i++
      while (keyAt(numbers, j, keys) > pivot) j--
      if (i > j) break
      const kept = load<i32>(numbers + (<usize>i << 2))
      store<i32>(numbers + (<usize>i << 2), load<i32>(numbers + (<usize>j << 2)))
      store<i32>(numbers + (<usize>j << 2), kept)
      i++
      j--
    }
    if (middle <= j) to = j
    else if (middle >= i) from = i
    else return
  }
}

/** Coordinates in both orders. What fills up a leaf lies on a centroid of it, so that it makes no box larger. */
function fillLeaves(shape: usize, tree: usize, codebook: usize, centre: usize): void {
  const k = shapeOf(shape, Shape.CENTROIDS)
  const d = shapeOf(shape, Shape.DIMENSIONS)
  const numbers = arrayOf(shape, tree, Shape.NUMBERS)
  const leafOf = arrayOf(shape, tree, Shape.LEAF_OF)
  const slots = shapeOf(shape, Shape.LEAVES) * LEAF
  for (let slot = 0; slot < slots; slot++) {
    const leaf = slot / LEAF
    const lane = slot % LEAF
    const own = slot < k ? slot : leaf * LEAF < k ? leaf * LEAF : k - 1
    const j = load<i32>(numbers + (<usize>own << 2))
    if (slot < k) store<u16>(leafOf + (<usize>j << 1), <u16>leaf)
    const row = arrayOf(shape, tree, Shape.COORDINATES) + (<usize>(leaf * d * LEAF + lane) << 2)
    const column = (leaf >> 2) * LEAF * d * 4 + lane * d * 4 + (leaf & 3)
    const stripe = arrayOf(shape, tree, Shape.STRIPES) + (<usize>column << 2)
    for (let a = 0; a < d; a++) {
      const value = coordinate(codebook, centre, j, a, d)
      store<f32>(row + (<usize>(a * LEAF) << 2), value)
      store<f32>(stripe + (<usize>a << 4), value)
    }
  }
  for (let slot = k; slot < slots; slot++) store<i32>(numbers + (<usize>slot << 2), MOST)
}

/** As `centre` of clustering.ts does it. */
function multiplyCoordinates(shape: usize, tree: usize): void {
  const d = shapeOf(shape, Shape.DIMENSIONS)
  let at = arrayOf(shape, tree, Shape.COORDINATES)
  let product = arrayOf(shape, tree, Shape.PRODUCTS)
  for (let leaf = 0; leaf < shapeOf(shape, Shape.LEAVES); leaf++) {
    for (let a: usize = 0; a < <usize>d; a++) {
      const left = f32x4.mul(v128.load(at + 32 * a), f32x4.splat(0.5))
      const right = f32x4.mul(v128.load(at + 32 * a, 16), f32x4.splat(0.5))
      for (let b = a; b < <usize>d; b++) {
        v128.store(product, f32x4.mul(left, v128.load(at + 32 * b)))
        v128.store(product, f32x4.mul(right, v128.load(at + 32 * b, 16)), 16)
        product += 32
      }
    }
    at += <usize>d << 5
  }
}

function reachOfNodes(shape: usize, tree: usize): void {
  const d = shapeOf(shape, Shape.DIMENSIONS)
  const reaches = arrayOf(shape, tree, Shape.REACHES)
  let at = arrayOf(shape, tree, Shape.STRIPES)
  for (let group = 0; group < shapeOf(shape, Shape.LEAVES) >> 2; group++) {
    let reach = f32x4.splat(0)
    for (let i = 0; i < LEAF * d; i++) {
      const value = v128.load(at)
      reach = f32x4.pmax(reach, f32x4.mul(value, value))
      at += 16
    }
    v128.store(reaches + (<usize>group << 4), reach)
  }
  for (let level = 1; level < shapeOf(shape, Shape.LEVELS); level++) {
    let child = reaches + (<usize>shapeOf(shape, Shape.STARTS + level - 1) << 4)
    const first = reaches + (<usize>shapeOf(shape, Shape.STARTS + level) << 4)
    for (let node = first; child < first; node += 4) {
      const values = v128.load(child)
      const pairs = f32x4.pmax(values, v128.shuffle<f32>(values, values, 2, 3, 0, 1))
      store<f32>(node, max(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1)))
      child += 16
    }
  }
}
