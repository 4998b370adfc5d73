import {
  CENTROID,
  invertDiagonal,
  lossChange,
  METRIC,
  PRESENT,
  RECIPROCALS,
  scaled,
  solveError,
  spread,
  VECTOR_BYTES,
} from '../clustering/columns'
import { aligned, param } from '../job'
import { findPath } from './trellis-path'
import { measureKeys, packCentroids, paddedClasses, ROW_BYTES, SQUARE } from './trellis-sweep'

/**
 * What `TrellisKernels` does, by tiles of whole paths. A thread's scratch holds the values of one vector, the packed
 * centroids, the weights of the tile's rows, the keys of one path, and the minima of one window and before each window.
 * Blocks of columns have the packed centroids behind the keys: their size changes with the width of an index.
 */

/** A codebook to pack: its address, where to, d, w, classes. */
const PACK_BYTES: usize = 20

/** Packs each codebook of the job once, whoever will search it. */
export function packTrellisTile(tile: i32): void {
  const entry = param<usize>(0) + <usize>tile * PACK_BYTES
  packCentroids(load<usize>(entry), load<i32>(entry, 8), load<i32>(entry, 12), load<i32>(entry, 16), load<usize>(entry, 4))
}

// @ts-expect-error: decorator
@inline
function packedOf(scratch: usize): usize {
  return scratch + VECTOR_BYTES
}

// @ts-expect-error: decorator
@inline
function packedBytes(d: i32, w: i32, classes: i32): usize {
  return (<usize>(paddedClasses(classes) << w) * <usize>(d + 1)) << 2
}

// @ts-expect-error: decorator
@inline
function keysOf(weights: usize, rows: i32): usize {
  return weights + <usize>(rows + 1) * ROW_BYTES
}

/** The keys of one path go to the scratch; `rows` are those of the tile, which its arrays have room for. */
function search(
  height: i32,
  rows: i32,
  d: i32,
  w: i32,
  classes: i32,
  window: i32,
  packed: usize,
  weights: usize,
  path: usize,
  keys: usize,
): void {
  const table = keys + aligned(<usize>rows << 1)
  const starts = table + (<usize>((window + 1) * paddedClasses(classes)) << 2)
  findPath(height, d, w, classes, packed, weights + path * ROW_BYTES, window, table, starts, keys)
}

/** The metric of one column of vectors in float32, for the norms. */
// @ts-expect-error: decorator
@inline
function roundMetric(metric: usize, d: i32, to: usize): void {
  for (let i: usize = 0; i < <usize>(d * d); i++) store<f32>(to + 4 * i, <f32>load<f64>(metric + 8 * i))
}

/** What a row weighs keys by: `-2 s M x` and `s^2`. */
// @ts-expect-error: decorator
@inline
function weigh(x: usize, metric: usize, scale: f32, d: i32, to: usize): void {
  for (let a: usize = 0; a < <usize>d; a++) {
    let sum: f64 = 0
    for (let b: usize = 0; b < <usize>d; b++) sum += load<f64>(metric + 8 * (a * <usize>d + b)) * <f64>load<f32>(x + 4 * b)
    store<f32>(to + 4 * a, <f32>(-2 * <f64>scale * sum))
  }
  store<f32>(to, scale * scale, SQUARE)
}

/**
 * Paths of one task of `searchTrellis`: addresses of the targets, the scales (0: none), the metric, the codebook plain and
 * packed, the keys and the loss; rows, rows of a path, d, w, classes, window.
 */
const SEARCH_BYTES: usize = 52

/** See `TrellisKernels.searchTrellis`. */
export function searchTrellisTile(tile: i32, scratch: usize): void {
  const entry = param<usize>(0) + <usize>tile * SEARCH_BYTES
  const targets = load<usize>(entry)
  const scales = load<usize>(entry, 4)
  const metric = load<usize>(entry, 8)
  const codebook = load<usize>(entry, 12)
  const keys = load<usize>(entry, 20)
  const rows = load<i32>(entry, 28)
  const height = load<i32>(entry, 32)
  const d = load<i32>(entry, 36)
  const w = load<i32>(entry, 40)
  const classes = load<i32>(entry, 44)
  const window = load<i32>(entry, 48)
  const packed = packedOf(scratch)
  const weights = packed + packedBytes(d, w, classes)
  const found = keysOf(weights, rows)
  memory.copy(packed, load<usize>(entry, 16), packedBytes(d, w, classes))
  roundMetric(metric, d, scratch + METRIC)
  measureKeys(packed, d, w, classes, scratch + METRIC)
  for (let r: usize = 0; r < <usize>rows; r++) {
    const scale: f32 = scales ? load<f32>(scales + 4 * r) : 1
    weigh(targets + 4 * r * <usize>d, metric, scale, d, weights + r * ROW_BYTES)
  }
  let loss: f64 = 0
  for (let top = 0; top < rows; top += height) {
    const count = min(height, rows - top)
    search(count, rows, d, w, classes, window, packed, weights, <usize>top, found)
    for (let r: usize = 0; r < <usize>count; r++) {
      const row = <usize>top + r
      const key = load<u16>(found + 2 * r)
      store<u16>(keys + 2 * row, key)
      let centroid = codebook + <usize>key * <usize>d * 4
      if (scales) centroid = scaled(centroid, load<f32>(scales + 4 * row), d, scratch + CENTROID)
      loss += distance(targets + 4 * row * <usize>d, centroid, metric, d)
    }
  }
  store<f64>(load<usize>(entry, 24), loss)
}

/** `(x - q)^T M (x - q)` in float64. */
function distance(x: usize, q: usize, metric: usize, d: i32): f64 {
  let total: f64 = 0
  for (let a: usize = 0; a < <usize>d << 2; a += 4) {
    let sum: f64 = 0
    for (let b: usize = 0; b < <usize>d << 2; b += 4) {
      sum += load<f64>(metric + 2 * (a * <usize>d + b)) * (<f64>load<f32>(x + b) - <f64>load<f32>(q + b))
    }
    total += sum * (<f64>load<f32>(x + a) - <f64>load<f32>(q + a))
  }
  return total
}

/**
 * Row groups of a block of columns that share a codebook: first row, rows, number of the codebook, and how many keys the
 * tile changed.
 */
const TILE_BYTES: usize = 16

/** The scale of a vector, of a block whose scales start at `scales`; without any (0) it is 1. */
// @ts-expect-error: decorator
@inline
function scaleOf(scales: usize, row: usize, column: i32): f32 {
  return scales ? load<f32>(scales + row * param<usize>(15) + (<usize>(column / param<i32>(14)) << 2)) : 1
}

/** A column of vectors: w, where its packed codebook lies among those of a row group, and its factor. */
const COLUMN_BYTES: usize = 12

/** The width of a column's indices; where it is another than before, its packed codebook takes the place of that one. */
// @ts-expect-error: decorator
@inline
function openColumn(column: usize, before: i32, states: i32, d: i32, stored: usize, packed: usize): i32 {
  const w = load<i32>(column)
  if (w != before) memory.copy(packed, stored + load<usize>(column, 4), packedBytes(d, w, states >>> w))
  return w
}

/** What a vector stands for: its centroid times the factor of its column, which is exact, times its scale. */
// @ts-expect-error: decorator
@inline
function valueOf(centroid: usize, factor: f32, scale: f32, d: i32, to: usize): usize {
  for (let a: usize = 0; a < <usize>d << 2; a += 4) store<f32>(to + a, load<f32>(centroid + a) * factor * scale)
  return to
}

/** See `TrellisKernels.quantizeTrellis`. */
export function quantizeTrellisTile(tile: i32, scratch: usize): void {
  const entry = param<usize>(0) + <usize>tile * TILE_BYTES
  const firstRow = load<usize>(entry)
  const rows = load<i32>(entry, 4)
  const d = param<i32>(1)
  const columns = param<usize>(2)
  const states = 1 << param<i32>(3)
  const width = param<i32>(4)
  const stride = param<usize>(5)
  const work = param<usize>(6) + firstRow * stride
  const root = param<usize>(7)
  const metrics = param<usize>(8)
  const codebook = param<usize>(9) + ((load<usize>(entry, 8) * <usize>(states * d)) << 2)
  const perRow = <usize>(width / d) << 1
  const keys = param<usize>(11) + firstRow * perRow
  const errors = param<usize>(12) + firstRow * stride
  const scales = param<usize>(13) ? param<usize>(13) + firstRow * param<usize>(15) : 0
  const height = param<i32>(16)
  const window = param<i32>(17)
  const stored = param<usize>(10) + load<usize>(entry, 8) * param<usize>(18)
  const weights = packedOf(scratch)
  const found = weights + <usize>(rows + 1) * ROW_BYTES
  const packed = found + aligned(<usize>rows << 1)
  const table = packed + param<usize>(19)
  const starts = table + param<usize>(20)
  let w = 0
  for (let column = 0; column < width; column += d) {
    const at = <usize>column << 2
    const own = columns + <usize>(column / d) * COLUMN_BYTES
    const factor = load<f32>(own, 8)
    w = openColumn(own, w, states, d, stored, packed)
    const classes = states >>> w
    const u = root + <usize>column * stride
    const metric = metrics + ((<usize>column * <usize>d) << 3)
    roundMetric(metric, d, scratch + METRIC)
    measureKeys(packed, d, w, classes, scratch + METRIC)
    for (let r: usize = 0; r < <usize>rows; r++) {
      weigh(work + r * stride + at, metric, factor * scaleOf(scales, r, column), d, weights + r * ROW_BYTES)
    }
    invertDiagonal(u + at, stride, d, scratch + RECIPROCALS)
    const from = <usize>((column + d) & ~3) << 2
    for (let top = 0; top < rows; top += height) {
      const count = min(height, rows - top)
      findPath(count, d, w, classes, packed, weights + <usize>top * ROW_BYTES, window, table, starts, found)
      for (let i: usize = 0; i < <usize>count; i++) {
        const r = <usize>top + i
        const key = load<u16>(found + 2 * i)
        store<u16>(keys + r * perRow + (<usize>(column / d) << 1), key)
        const centroid = valueOf(
          codebook + ((<usize>key * <usize>d) << 2),
          factor,
          scaleOf(scales, r, column),
          d,
          scratch + CENTROID,
        )
        const error = errors + r * stride + at
        solveError(work + r * stride + at, centroid, u + at, stride, d, scratch, error)
        spread(error, d, u + from, stride, work + r * stride + from, stride - from)
      }
    }
  }
}

/** See `TrellisKernels.refineTrellis`. */
export function refineTrellisTile(tile: i32, scratch: usize): void {
  const entry = param<usize>(0) + <usize>tile * TILE_BYTES
  const firstRow = load<usize>(entry)
  const rows = load<i32>(entry, 4)
  const d = param<i32>(1)
  const columns = param<usize>(2)
  const states = 1 << param<i32>(3)
  const width = param<i32>(4)
  const stride = param<usize>(5)
  const residual = param<usize>(6) + firstRow * stride
  const hessian = param<usize>(7)
  const changes = param<usize>(8) + firstRow * 8
  const codebook = param<usize>(9) + ((load<usize>(entry, 8) * <usize>(states * d)) << 2)
  const perRow = <usize>(width / d) << 1
  const keys = param<usize>(11) + firstRow * perRow
  const steps = param<usize>(12) + firstRow * stride
  const scales = param<usize>(13) ? param<usize>(13) + firstRow * param<usize>(15) : 0
  const height = param<i32>(16)
  const window = param<i32>(17)
  const stored = param<usize>(10) + load<usize>(entry, 8) * param<usize>(18)
  const weights = packedOf(scratch)
  const found = weights + <usize>(rows + 1) * ROW_BYTES
  const packed = found + aligned(<usize>rows << 1)
  const table = packed + param<usize>(19)
  const starts = table + param<usize>(20)
  const metric = scratch + METRIC
  memory.fill(steps, 0, <usize>rows * stride)
  memory.fill(changes, 0, <usize>rows << 3)
  let changed = 0
  let w = 0
  for (let column = 0; column < width; column += d) {
    const at = <usize>column << 2
    const own = columns + <usize>(column / d) * COLUMN_BYTES
    const factor = load<f32>(own, 8)
    w = openColumn(own, w, states, d, stored, packed)
    const classes = states >>> w
    const h = hessian + <usize>column * stride
    const from = <usize>((column + d) & ~3) << 2
    for (let a: usize = 0; a < <usize>d; a++) {
      memory.copy(metric + ((a * <usize>d) << 2), h + a * stride + at, <usize>d << 2)
    }
    measureKeys(packed, d, w, classes, metric)
    const present = keys + (<usize>(column / d) << 1)
    for (let r: usize = 0; r < <usize>rows; r++) {
      const scale = scaleOf(scales, r, column)
      const centroid = codebook + ((<usize>load<u16>(present + r * perRow) * <usize>d) << 2)
      const value = valueOf(centroid, factor, scale, d, scratch + PRESENT)
      weighMoved(value, residual + r * stride + at, metric, factor * scale, d, weights + r * ROW_BYTES)
    }
    for (let top = 0; top < rows; top += height) {
      const count = min(height, rows - top)
      findPath(count, d, w, classes, packed, weights + <usize>top * ROW_BYTES, window, table, starts, found)
      let total: f64 = 0
      for (let i: usize = 0; i < <usize>count; i++) {
        const r = <usize>top + i
        const pull = residual + r * stride + at
        total += changeBy(present + r * perRow, found + 2 * i, codebook, factor, scaleOf(scales, r, column), metric, pull, d, scratch)
      }
      if (!(total < 0)) continue
      for (let i: usize = 0; i < <usize>count; i++) {
        const r = <usize>top + i
        const key = load<u16>(found + 2 * i)
        if (key == load<u16>(present + r * perRow)) continue
        const pull = residual + r * stride + at
        const change = changeBy(present + r * perRow, found + 2 * i, codebook, factor, scaleOf(scales, r, column), metric, pull, d, scratch)
        changed++
        store<u16>(present + r * perRow, key)
        store<f64>(changes + 8 * r, load<f64>(changes + 8 * r) + change)
        const step = steps + r * stride + at
        for (let a: usize = 0; a < <usize>d << 2; a += 4) {
          store<f32>(step + a, load<f32>(scratch + CENTROID + a) - load<f32>(scratch + PRESENT + a))
        }
        spread(step, d, h + from, stride, residual + r * stride + from, stride - from)
      }
    }
  }
  store<i32>(entry, changed, 12)
}

/** As `weigh` for `M x = M q + R_P`: where a vector would best be by the residual. */
// @ts-expect-error: decorator
@inline
function weighMoved(present: usize, pull: usize, metric: usize, scale: f32, d: i32, to: usize): void {
  for (let a: usize = 0; a < <usize>d << 2; a += 4) {
    let sum = <f64>load<f32>(pull + a)
    for (let b: usize = 0; b < <usize>d << 2; b += 4) {
      sum += <f64>load<f32>(metric + a * <usize>d + b) * <f64>load<f32>(present + b)
    }
    store<f32>(to + a, <f32>(-2 * <f64>scale * sum))
  }
  store<f32>(to, scale * scale, SQUARE)
}

/** What another key does to the loss; what both keys stand for is left in the scratch. */
// @ts-expect-error: decorator
@inline
function changeBy(
  present: usize,
  key: usize,
  codebook: usize,
  factor: f32,
  scale: f32,
  metric: usize,
  pull: usize,
  d: i32,
  scratch: usize,
): f64 {
  const from = valueOf(codebook + ((<usize>load<u16>(present) * <usize>d) << 2), factor, scale, d, scratch + PRESENT)
  const to = valueOf(codebook + ((<usize>load<u16>(key) * <usize>d) << 2), factor, scale, d, scratch + CENTROID)
  return lossChange(from, to, metric, pull, d)
}
