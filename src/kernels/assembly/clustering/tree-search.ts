import { multiplyAdd } from '../simd'
import { arrayOf, Shape, shapeOf } from './tree'
import { boxesOf, groupBytes, LOOSENING, ROUNDING } from './tree-bounds'

/**
 * The search of a tree for up to 32 vectors of one metric side by side, stage by stage. How many nodes a vector must look
 * into cannot be foreseen, and a wrong guess costs all that a processor has begun; so a stage lists what the next is to
 * look into without branching on it.
 *
 * 1. `begin`: the centroids of one leaf per vector; the nearest of them says how far others may be.
 * 2. `listChildren`: level by level, which nodes are in reach, as pairs of a vector and a group of 4 nodes.
 * 3. `visitLeaves`: the centroids of the leaves in reach.
 */

/**
 * What a search wants of a vector x: y (d floats), x (d floats), the energy `-y . x / 2` that makes scores squared
 * distances, and its reach: |metric| times the square of the largest coordinate; infinite where no bound holds.
 */
// @ts-expect-error: decorator
@inline
export function soughtBytes(d: i32): usize {
  return <usize>(2 * d + 2) << 2
}

/** The record of a vector in the search: y and `L^T x` (4 floats each), then these. */
const POINT: usize = 16
const ENERGY: usize = 32
/** What rounding may do. */
const SLACK: usize = 36
/** Where the search begins. */
const START: usize = 40
const NEAREST: usize = 44
const LEAST: usize = 48
const LIMIT: usize = 52
const RECORD_BYTES: usize = 64
export const BATCH: i32 = 32

/** By which lanes to take so that those of a mask come first. */
const COMPACTIONS = memory.data<u8>([
  0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
  0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
  4, 5, 6, 7, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
  0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 0, 1, 2, 3,
  8, 9, 10, 11, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
  0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 0, 1, 2, 3,
  4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 0, 1, 2, 3,
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3,
  12, 13, 14, 15, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
  0, 1, 2, 3, 12, 13, 14, 15, 0, 1, 2, 3, 0, 1, 2, 3,
  4, 5, 6, 7, 12, 13, 14, 15, 0, 1, 2, 3, 0, 1, 2, 3,
  0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 0, 1, 2, 3,
  8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 0, 1, 2, 3,
  0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3,
  4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3,
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
], 16)

/** Pairs that a list has room for; when it is full they are looked into at once. */
const PAIRS: i32 = 1024
/** Bytes of scratch of a search: the vectors, then a list per level. */
export const SEARCH_BYTES: usize = 64 * 32 + 7 * 1024 * 4

let starts: usize = 0
let levels: i32 = 0
let topGroups: i32 = 0
let numbers: usize = 0
let coordinates: usize = 0
let norms: usize = 0
let boxes: usize = 0
let transform: usize = 0
let vectors: usize = 0

/** From here on a tree is searched under one metric: its `bounds`, and `rows` of `factorForm`. */
export function enterTree(shape: usize, tree: usize, bounds: usize, rows: usize, scratch: usize): void {
  starts = shape + (<usize>Shape.STARTS << 2)
  levels = shapeOf(shape, Shape.LEVELS)
  topGroups = shapeOf(shape, Shape.GROUPS) - shapeOf(shape, Shape.STARTS + levels - 1)
  numbers = arrayOf(shape, tree, Shape.NUMBERS)
  coordinates = arrayOf(shape, tree, Shape.COORDINATES)
  norms = bounds
  boxes = boxesOf(shape, bounds)
  transform = rows
  vectors = scratch
}

/** Writes record `i` of a search from what is `sought`; `leaf`: where to begin, if that is known. */
// @ts-expect-error: decorator
@inline
export function putVector(i: usize, sought: usize, d: i32, leaf: i32): void {
  const vector = vectors + i * RECORD_BYTES
  const x = sought + (<usize>d << 2)
  let point = f32x4.mul(v128.load_splat<f32>(x), v128.load(transform))
  point = multiplyAdd(v128.load_splat<f32>(x, 4), v128.load(transform, 16), point)
  if (d == 2) {
    store<u64>(vector, load<u64>(sought))
    store<u64>(vector, load<u64>(sought, 16), ENERGY)
  } else {
    v128.store(vector, v128.load(sought))
    store<u64>(vector, load<u64>(sought, 32), ENERGY)
    point = multiplyAdd(v128.load_splat<f32>(x, 8), v128.load(transform, 32), point)
    point = multiplyAdd(v128.load_splat<f32>(x, 12), v128.load(transform, 48), point)
  }
  v128.store(vector, point, POINT)
  store<i32>(vector, leaf, START)
}

/** Number of the centroid of the least `norm + y . c` for record `i`, the lowest of several; k or more: no score is one. */
// @ts-expect-error: decorator
@inline
export function nearestOf(i: usize): u32 {
  return load<u32>(vectors + i * RECORD_BYTES, NEAREST)
}

/** Searches for the first `count` records; d is 2 or 4; `isKnown`: they say where to begin. */
export function searchTree(count: i32, d: i32, isKnown: bool): void {
  if (d == 2) search2(count, isKnown)
  else search4(count, isKnown)
}

function search2(count: i32, isKnown: bool): void {
  search(count, 2, isKnown)
}

function search4(count: i32, isKnown: bool): void {
  search(count, 4, isKnown)
}

// @ts-expect-error: decorator
@inline
function search(count: i32, d: i32, isKnown: bool): void {
  const end = vectors + <usize>count * RECORD_BYTES
  if (isKnown) {
    for (let vector = vectors; vector < end; vector += RECORD_BYTES) begin(vector, d)
  } else beginLikely(end, d)
  const top = levels - 1
  const list = listOf(top)
  let to = list
  for (let group = 0; group < topGroups; group++) {
    for (let i = 0; i < count; i++) {
      store<i32>(to, (group << 5) | i)
      to += 4
    }
  }
  if (d == 2) listChildren2(top, list, to)
  else listChildren4(top, list, to)
}

// @ts-expect-error: decorator
@inline
function scoresOf(vector: usize, leaf: i32, half: usize, d: i32): v128 {
  const c = coordinates + (<usize>(leaf * d) << 5) + half
  let score = multiplyAdd(v128.load_splat<f32>(vector), v128.load(c), v128.load(norms + (<usize>leaf << 5) + half))
  score = multiplyAdd(v128.load_splat<f32>(vector, 4), v128.load(c, 32), score)
  if (d == 2) return score
  score = multiplyAdd(v128.load_splat<f32>(vector, 8), v128.load(c, 64), score)
  return multiplyAdd(v128.load_splat<f32>(vector, 12), v128.load(c, 96), score)
}

// @ts-expect-error: decorator
@inline
function begin(vector: usize, d: i32): void {
  store<f32>(vector, 2 * ROUNDING * load<f32>(vector, SLACK), SLACK)
  store<f32>(vector, Infinity, LEAST)
  store<i32>(vector, -1, NEAREST)
  const leaf = load<i32>(vector, START)
  take(vector, scoresOf(vector, leaf, 0, d), scoresOf(vector, leaf, 16, d), leaf)
}

/** Begins where the vectors seem to lie, with all 4 leaves there. */
// @ts-expect-error: decorator
@inline
function beginLikely(end: usize, d: i32): void {
  for (let vector = vectors; vector < end; vector += RECORD_BYTES) {
    store<i32>(vector, likelyLeaf(vector, d), START)
  }
  for (let vector = vectors; vector < end; vector += RECORD_BYTES) begin(vector, d)
  for (let other = 1; other < 4; other++) {
    for (let vector = vectors; vector < end; vector += RECORD_BYTES) {
      const leaf = load<i32>(vector, START) ^ other
      take(vector, scoresOf(vector, leaf, 0, d), scoresOf(vector, leaf, 16, d), leaf)
    }
  }
}

/** Keeps a score as the least, and how far another centroid may be. What is not a number bounds nothing. */
// @ts-expect-error: decorator
@inline
function settle(vector: usize, least: f32, nearest: u32): void {
  store<f32>(vector, least, LEAST)
  store<u32>(vector, nearest, NEAREST)
  const square = max<f32>(0, least + load<f32>(vector, ENERGY))
  store<f32>(vector, LOOSENING * (square + load<f32>(vector, SLACK)), LIMIT)
}

// @ts-expect-error: decorator
@inline
function listOf(level: i32): usize {
  return vectors + RECORD_BYTES * BATCH + (<usize>(level + 1) * PAIRS << 2)
}

function listChildren2(level: i32, list: usize, end: usize): void {
  listChildren(level, list, end, 2)
}

function listChildren4(level: i32, list: usize, end: usize): void {
  listChildren(level, list, end, 4)
}

/** Lists what of the listed groups of nodes is in reach: leaves, or nodes as the groups of their children. */
// @ts-expect-error: decorator
@inline
function listChildren(level: i32, list: usize, end: usize, d: i32): void {
  const first = boxes + <usize>load<i32>(starts + (<usize>level << 2)) * groupBytes(d)
  const next = listOf(level - 1)
  const last = next + (<usize>(PAIRS - 4) << 2)
  while (list < end) {
    let to = next
    for (; list < end && to <= last; list += 4) {
      const pair = load<i32>(list)
      const vector = vectors + <usize>(pair & 31) * RECORD_BYTES
      const group = pair >> 5
      let near = nodesInReach(vector, first + <usize>group * groupBytes(d), d)
      if (level == 0) {
        const start = load<i32>(vector, START)
        near &= ~select(1 << (start & 3), 0, start >> 2 == group)
      }
      const nodes = i32x4.add(i32x4.splat((group << 7) | (pair & 31)), i32x4(0, 32, 64, 96))
      v128.store(to, v128.swizzle(nodes, v128.load(COMPACTIONS + (<usize>near << 4))))
      to += <usize>popcnt(near) << 2
    }
    if (level == 0) visitLeaves(next, to, d)
    else if (d == 2) listChildren2(level - 1, next, to)
    else listChildren4(level - 1, next, to)
  }
}

/** A bit for each of 4 nodes that is not too far. */
// @ts-expect-error: decorator
@inline
function nodesInReach(vector: usize, box: usize, d: i32): i32 {
  let sum = addGap(vector, box, 0, v128.load(box))
  sum = addGap(vector, box, 1, sum)
  if (d == 4) {
    sum = addGap(vector, box, 2, sum)
    sum = addGap(vector, box, 3, sum)
  }
  return i32x4.bitmask(f32x4.gt(sum, v128.load_splat<f32>(vector, LIMIT))) ^ 15
}

/** Adds the square of how far a vector is outside 4 boxes along one axis. */
// @ts-expect-error: decorator
@inline
function addGap(vector: usize, box: usize, axis: usize, sum: v128): v128 {
  const x = v128.load_splat<f32>(vector + (axis << 2), POINT)
  const below = f32x4.sub(v128.load(box + (axis << 5), 16), x)
  const above = f32x4.sub(x, v128.load(box + (axis << 5), 32))
  const gap = f32x4.pmax(f32x4.splat(0), f32x4.pmax(below, above))
  return multiplyAdd(gap, gap, sum)
}

// @ts-expect-error: decorator
@inline
function visitLeaves(list: usize, end: usize, d: i32): void {
  for (; list < end; list += 4) {
    const pair = load<i32>(list)
    visit(vectors + <usize>(pair & 31) * RECORD_BYTES, pair >> 5, d)
  }
}

// @ts-expect-error: decorator
@inline
function visit(vector: usize, leaf: i32, d: i32): void {
  const left = scoresOf(vector, leaf, 0, d)
  const right = scoresOf(vector, leaf, 16, d)
  const least = v128.load_splat<f32>(vector, LEAST)
  if (v128.any_true(f32x4.le(f32x4.pmin(left, right), least))) take(vector, left, right, leaf)
}

/**
 * Takes the least of 8 scores, if it is less than the least so far, or as little and of a lower number. Without branches:
 * which of them it will be cannot be foreseen.
 */
// @ts-expect-error: decorator
@inline
function take(vector: usize, left: v128, right: v128, leaf: i32): void {
  let smallest = f32x4.pmin(left, right)
  smallest = f32x4.pmin(smallest, v128.shuffle<f32>(smallest, smallest, 2, 3, 0, 1))
  smallest = f32x4.pmin(smallest, v128.shuffle<f32>(smallest, smallest, 1, 0, 3, 2))
  const number = numbers + (<usize>leaf << 5)
  // lanes that do not hold the least count as the largest number; unsigned, so that all ones is that
  let index = i32x4.min_u(
    v128.or(v128.load(number), v128.not(f32x4.eq(left, smallest))),
    v128.or(v128.load(number, 16), v128.not(f32x4.eq(right, smallest))),
  )
  index = i32x4.min_u(index, v128.shuffle<i32>(index, index, 2, 3, 0, 1))
  index = i32x4.min_u(index, v128.shuffle<i32>(index, index, 1, 0, 3, 2))
  const score = f32x4.extract_lane(smallest, 0)
  const own = <u32>i32x4.extract_lane(index, 0)
  const least = load<f32>(vector, LEAST)
  const nearest = load<u32>(vector, NEAREST)
  const lower = select<u32>(own, nearest, score < least)
  settle(vector, min(least, score), select<u32>(min(own, nearest), lower, score == least))
}

/** The leaf on the way down to the nearest boxes. */
// @ts-expect-error: decorator
@inline
function likelyLeaf(vector: usize, d: i32): i32 {
  let group = 0
  let groups = topGroups
  for (let level = levels - 1; level > 0; level--) {
    group = nearestBox(vector, load<i32>(starts + (<usize>level << 2)) + group, groups, d) + (group << 2)
    groups = 1
  }
  return nearestBox(vector, group, groups, d) + (group << 2)
}

/** Which of the nodes of some groups is nearest: by its box, and by the middle of that. */
// @ts-expect-error: decorator
@inline
function nearestBox(vector: usize, group: i32, groups: i32, d: i32): i32 {
  let least = f32x4.splat(Infinity)
  let which = i32x4.splat(0)
  let index = i32x4(0, 1, 2, 3)
  let box = boxes + <usize>group * groupBytes(d)
  for (let i = 0; i < groups; i++) {
    let sum = v128.load(box)
    for (let axis: usize = 0; axis < <usize>d; axis++) {
      const x = v128.load_splat<f32>(vector + (axis << 2), POINT)
      const below = f32x4.sub(v128.load(box + (axis << 5), 16), x)
      const above = f32x4.sub(x, v128.load(box + (axis << 5), 32))
      const gap = f32x4.pmax(f32x4.splat(0), f32x4.pmax(below, above))
      const middle = f32x4.sub(above, below)
      sum = multiplyAdd(gap, gap, multiplyAdd(f32x4.mul(middle, f32x4.splat(0.0625)), middle, sum))
    }
    which = v128.bitselect(index, which, f32x4.lt(sum, least))
    least = f32x4.pmin(least, sum)
    index = i32x4.add(index, i32x4.splat(4))
    box += groupBytes(d)
  }
  let smallest = f32x4.pmin(least, v128.shuffle<f32>(least, least, 2, 3, 0, 1))
  smallest = f32x4.pmin(smallest, v128.shuffle<f32>(smallest, smallest, 1, 0, 3, 2))
  which = v128.or(which, v128.not(f32x4.eq(least, smallest)))
  which = i32x4.min_u(which, v128.shuffle<i32>(which, which, 2, 3, 0, 1))
  which = i32x4.min_u(which, v128.shuffle<i32>(which, which, 1, 0, 3, 2))
  // 0 also where nothing is a number
  const lane = i32x4.extract_lane(which, 0)
  return <u32>lane < <u32>(groups << 2) ? lane : 0
}
