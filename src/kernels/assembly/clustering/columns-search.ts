import { param } from '../job'
import { divide, project } from './nearest'
import { arrayOf, plantTree, Shape } from './tree'
import { boxNodes, factorForm, normsOfTree, sizeOfForm } from './tree-bounds'
import { enterTree, nearestOf, putVector, SEARCH_BYTES, searchTree } from './tree-search'

/*
 * The search of large codebooks for `quantizeTile` and `refineTile`. Two jobs go before theirs: one makes a tree of every
 * codebook, one what the metric of each position of a vector makes of that. Then a tile searches for its rows at once.
 */

/** Parameters of all jobs of a task with trees, after those of columns.ts. */
const SHAPE: i32 = 14
const TREES: i32 = 15
const TREE_BYTES: i32 = 16
const TABLES: i32 = 17
const TABLE_BYTES: i32 = 18
const FACTOR: i32 = 19
/** Where the metrics are, d x d each, METRIC_STEP bytes apart, with rows of METRIC_ROW bytes. */
const METRICS: i32 = 20
const METRIC_STEP: i32 = 21
const METRIC_ROW: i32 = 22
const POSITIONS: i32 = 23

/** A table: the form, its size, the factor of the search, the root of the metric (float64), then bounds. */
const SIZE: usize = 40
/** 1 where the metric has a root. */
const HAS_ROOT: usize = 44
const ROWS: usize = 64
const ROOT: usize = 128
const BOUNDS: usize = 256

/** A pivot below this share of its diagonal element leaves a metric without root. */
const LEAST_PIVOT: f64 = 1e-5

/** Space of a search in the scratch memory of a tile, after that of one vector. */
const SEARCH: usize = 256
const SOUGHT: usize = SEARCH + SEARCH_BYTES
const SOLUTION: usize = SOUGHT + 64

// @ts-expect-error: decorator
@inline
export function hasTrees(): bool {
  return param<usize>(SHAPE) != 0
}

// @ts-expect-error: decorator
@inline
function treeOf(group: i32): usize {
  return param<usize>(TREES) + <usize>group * param<usize>(TREE_BYTES)
}

// @ts-expect-error: decorator
@inline
function tableOf(group: i32, position: i32): usize {
  return param<usize>(TABLES) + <usize>(group * param<i32>(POSITIONS) + position) * param<usize>(TABLE_BYTES)
}

/** Makes the tree of one codebook. */
export function plantCodebookTile(group: i32, scratch: usize): void {
  const bytes = <usize>(param<i32>(1) * param<i32>(2)) << 2
  const codebook = param<usize>(8) + <usize>group * bytes
  plantTree(param<usize>(SHAPE), treeOf(group), codebook, 0, param<usize>(FACTOR), false, scratch)
}

/** What the metric of one position makes of the tree of one codebook. */
export function boundPositionTile(tile: i32, scratch: usize): void {
  const position = tile % param<i32>(POSITIONS)
  const group = tile / param<i32>(POSITIONS)
  const d = param<i32>(1)
  const form = tableOf(group, position)
  const metric = param<usize>(METRICS) + <usize>position * param<usize>(METRIC_STEP)
  let t = form
  for (let a: usize = 0; a < <usize>d; a++) {
    for (let b = a; b < <usize>d; b++) {
      const value = load<f32>(metric + a * param<usize>(METRIC_ROW) + (b << 2))
      store<f32>(t, a == b ? value : value + value)
      t += 4
    }
  }
  const size = sizeOfForm(form, d)
  store<f32>(form, size, SIZE)
  store<i32>(form, i32(findRoot(form, d)), HAS_ROOT)
  factorForm(form, d, 1, form + ROWS, scratch)
  normsOfTree(param<usize>(SHAPE), treeOf(group), form, form + BOUNDS)
  boxNodes(param<usize>(SHAPE), treeOf(group), form + ROWS, size, form + BOUNDS)
}

/** The Cholesky root of a form, in float64; false where it is nearly singular. */
function findRoot(form: usize, d: i32): bool {
  const root = form + ROOT
  let t = form
  for (let j = 0; j < d; j++) {
    for (let i = j; i < d; i++) {
      const value = <f64>load<f32>(t) * (i == j ? 1 : 0.5)
      t += 4
      let sum = value
      for (let p = 0; p < j; p++) sum -= rootAt(root, i, p) * rootAt(root, j, p)
      if (i == j) {
        if (!(sum > LEAST_PIVOT * value)) return false
        sum = Math.sqrt(sum)
      } else sum /= rootAt(root, j, j)
      store<f64>(root + (<usize>(i * 4 + j) << 3), sum)
    }
  }
  return true
}

// @ts-expect-error: decorator
@inline
function rootAt(root: usize, i: i32, j: i32): f64 {
  return load<f64>(root + (<usize>(i * 4 + j) << 3))
}

/** From here on the rows of a tile are searched at one position. */
export function enterPosition(group: i32, position: i32, scratch: usize): void {
  const table = tableOf(group, position)
  enterTree(param<usize>(SHAPE), treeOf(group), table + BOUNDS, table + ROWS, scratch + SEARCH)
}

/** Row `r` of a walk: weights x over a scale. */
export function seekWeights(r: usize, x: usize, metric: usize, scale: f32, d: i32, scratch: usize): void {
  const sought = scratch + SOUGHT
  const point = sought + (<usize>d << 2)
  project(metric, x, d, sought)
  memory.copy(point, x, <usize>d << 2)
  if (scale != 1) {
    divide(sought, scale, d)
    divide(point, scale, d)
  }
  let size: f32 = 0
  for (let i = 0; i < d * d; i++) size += abs(load<f32>(metric + (<usize>i << 2)))
  finish(sought, size, d)
  if (d == 2) putVector(r, sought, 2, 0)
  else putVector(r, sought, 4, 0)
}

/** Row `r` of a refinement, whose present centroid is `index`: y at the start of the scratch memory is all that is known. */
export function seekMoved(r: usize, group: i32, index: i32, position: i32, d: i32, scratch: usize): void {
  const sought = scratch + SOUGHT
  const table = tableOf(group, position)
  memory.copy(sought, scratch, <usize>d << 2)
  if (load<i32>(table, HAS_ROOT)) {
    solve(table + ROOT, sought, d, scratch + SOLUTION)
    finish(sought, load<f32>(table, SIZE), d)
  } else {
    // nothing is known of distances
    memory.fill(sought + (<usize>d << 2), 0, (<usize>d + 1) << 2)
    store<f32>(sought + (<usize>(2 * d + 1) << 2), Infinity)
  }
  const leaves = arrayOf(param<usize>(SHAPE), treeOf(group), Shape.LEAF_OF)
  const leaf = <i32>load<u16>(leaves + (<usize>index << 1))
  if (d == 2) putVector(r, sought, 2, leaf)
  else putVector(r, sought, 4, leaf)
}

/** `x = -M^-1 y / 2` after y. */
function solve(root: usize, sought: usize, d: i32, exact: usize): void {
  for (let i = 0; i < d; i++) {
    let sum = -0.5 * <f64>load<f32>(sought + (<usize>i << 2))
    for (let p = 0; p < i; p++) sum -= rootAt(root, i, p) * load<f64>(exact + (<usize>p << 3))
    store<f64>(exact + (<usize>i << 3), sum / rootAt(root, i, i))
  }
  for (let i = d - 1; i >= 0; i--) {
    let sum = load<f64>(exact + (<usize>i << 3))
    for (let p = i + 1; p < d; p++) sum -= rootAt(root, p, i) * load<f64>(exact + (<usize>p << 3))
    sum /= rootAt(root, i, i)
    store<f64>(exact + (<usize>i << 3), sum)
    store<f32>(sought + (<usize>(d + i) << 2), <f32>sum)
  }
}

/** Energy and reach after y and x. */
// @ts-expect-error: decorator
@inline
function finish(sought: usize, size: f32, d: i32): void {
  const point = sought + (<usize>d << 2)
  let energy: f32 = 0
  let reach: f32 = 0
  for (let a: usize = 0; a < <usize>d << 2; a += 4) {
    const x = load<f32>(point + a)
    energy -= load<f32>(sought + a) * x
    reach = max(reach, abs(x))
  }
  store<f32>(sought + (<usize>d << 3), 0.5 * energy)
  store<f32>(sought + (<usize>d << 3), size * reach * reach, 4)
}

// @ts-expect-error: decorator
@inline
export function seekAll(rows: i32, d: i32, isKnown: bool): void {
  searchTree(rows, d, isKnown)
}

// @ts-expect-error: decorator
@inline
export function foundOf(r: usize, k: i32): i32 {
  const nearest = nearestOf(r)
  return nearest < <u32>k ? <i32>nearest : 0
}
