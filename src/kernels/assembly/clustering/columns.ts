import { aligned, param } from '../job'
import { enterPosition, foundOf, hasTrees, seekAll, seekMoved, seekWeights } from './columns-search'
import { divide, measureCentroids, nearestCentroid, paddedCentroids, project, spreadCodebook } from './nearest'
import { multiplySubtract } from '../simd'

/**
 * Vectors of a block of columns from left to right: `quantizeTile` and `refineTile`. A tile is a few rows that share a
 * codebook. All matrices of a job have rows of `stride` bytes, whole SIMD registers; what pads them is zero.
 *
 * A vector changes the columns behind it in whole registers, so also some before it in its own register: those have
 * been read for the last time.
 */

/** The table of tiles: its first row, how many rows, number of its codebook, and how many indices it changed. */
const TILE_BYTES: usize = 16

/** Space for one vector's values at the start of the scratch: y (or -2 y), errors and reciprocals in float64. */
export const VECTOR_BYTES: usize = 256
const EXACT: usize = 32
export const RECIPROCALS: usize = 64
export const METRIC: usize = 96
export const CENTROID: usize = 160
export const PRESENT: usize = 176

/** See `ColumnKernels.quantizeColumns`. */
export function quantizeTile(tile: i32, scratch: usize): void {
  const entry = param<usize>(0) + <usize>tile * TILE_BYTES
  const firstRow = load<usize>(entry)
  const rows = load<i32>(entry, 4)
  const d = param<i32>(1)
  const k = param<i32>(2)
  const width = param<i32>(3)
  const stride = param<usize>(4)
  const work = param<usize>(5) + firstRow * stride
  const factor = param<usize>(6)
  const metrics = param<usize>(7)
  const codebook = param<usize>(8) + load<usize>(entry, 8) * <usize>(k * d) * 4
  const perRow = <usize>(width / d) * 2
  const indices = param<usize>(9) + firstRow * perRow
  const errors = param<usize>(10) + firstRow * stride
  const scales = scalesOf(firstRow)
  const scaleStride = param<usize>(13)
  const padded = paddedCentroids(k)
  const coordinates = scratch + VECTOR_BYTES
  const norms = coordinates + aligned(<usize>(padded * d) * 4)
  const isTree = hasTrees()
  if (!isTree) spreadCodebook(codebook, k, d, coordinates)
  for (let column = 0; column < width; column += d) {
    const at = <usize>column * 4
    const u = factor + <usize>column * stride
    const metric = metrics + at * d
    if (isTree) {
      enterPosition(load<i32>(entry, 8), column / d, scratch)
      for (let r: usize = 0; r < <usize>rows; r++) {
        const scale: f32 = scales ? load<f32>(scales + r * scaleStride + scaleAt(column)) : 1
        seekWeights(r, work + r * stride + at, metric, scale, d, scratch)
      }
      seekAll(rows, d, false)
    } else measureCentroids(coordinates, k, d, metric, norms)
    invertDiagonal(u + at, stride, d, scratch + RECIPROCALS)
    const from = <usize>((column + d) & ~3) * 4
    for (let r: usize = 0; r < <usize>rows; r++) {
      const x = work + r * stride + at
      const scale: f32 = scales ? load<f32>(scales + r * scaleStride + scaleAt(column)) : 1
      let nearest: i32
      if (isTree) nearest = foundOf(r, k)
      else {
        project(metric, x, d, scratch)
        if (scales) divide(scratch, scale, d)
        nearest = nearestCentroid(scratch, d, coordinates, padded, norms)
      }
      store<u16>(indices + r * perRow + <usize>(column / d) * 2, <u16>nearest)
      const error = errors + r * stride + at
      let centroid = codebook + <usize>(nearest * d) * 4
      if (scales) centroid = scaled(centroid, scale, d, scratch + CENTROID)
      solveError(x, centroid, u + at, stride, d, scratch, error)
      spread(error, d, u + from, stride, work + r * stride + from, stride - from)
    }
  }
}

/** The scales of a tile's first row; 0 for a task without. */
// @ts-expect-error: decorator
@inline
function scalesOf(firstRow: usize): usize {
  const scales = param<usize>(11)
  return scales ? scales + firstRow * param<usize>(13) : 0
}

/** Where in a row of scales that of a column lies. */
// @ts-expect-error: decorator
@inline
function scaleAt(column: i32): usize {
  return <usize>(column / param<i32>(12)) << 2
}

/** Writes a centroid times a scale to `to` and returns that. */
// @ts-expect-error: decorator
@inline
export function scaled(centroid: usize, scale: f32, d: i32, to: usize): usize {
  for (let a: usize = 0; a < <usize>d << 2; a += 4) store<f32>(to + a, scale * load<f32>(centroid + a))
  return to
}

// @ts-expect-error: decorator
@inline
export function invertDiagonal(u: usize, stride: usize, d: i32, to: usize): void {
  for (let a: usize = 0; a < <usize>d; a++) store<f64>(to + 8 * a, 1 / <f64>load<f32>(u + a * (stride + 4)))
}

/** `(x - c) U_PP^-1`, solved in float64 and stored in float32. */
// @ts-expect-error: decorator
@inline
export function solveError(x: usize, c: usize, u: usize, stride: usize, d: i32, scratch: usize, error: usize): void {
  const exact = scratch + EXACT
  for (let a: usize = 0; a < <usize>d; a++) {
    let sum = <f64>load<f32>(x + 4 * a) - <f64>load<f32>(c + 4 * a)
    for (let b: usize = 0; b < a; b++) sum -= load<f64>(exact + 8 * b) * <f64>load<f32>(u + b * stride + 4 * a)
    sum *= load<f64>(scratch + RECIPROCALS + 8 * a)
    store<f64>(exact + 8 * a, sum)
    store<f32>(error + 4 * a, <f32>sum)
  }
}

/** `row -= sum_a factors[a] matrix[a]` over `bytes` bytes, whole registers. */
// @ts-expect-error: decorator
@inline
export function spread(factors: usize, d: i32, matrix: usize, stride: usize, row: usize, bytes: usize): void {
  const end = row + bytes
  const f0 = v128.load_splat<f32>(factors)
  if (d == 1) {
    while (row < end) {
      v128.store(row, multiplySubtract(f0, v128.load(matrix), v128.load(row)))
      row += 16
      matrix += 16
    }
    return
  }
  const f1 = v128.load_splat<f32>(factors, 4)
  if (d == 2) {
    while (row < end) {
      const sum = multiplySubtract(f0, v128.load(matrix), v128.load(row))
      v128.store(row, multiplySubtract(f1, v128.load(matrix + stride), sum))
      row += 16
      matrix += 16
    }
    return
  }
  const f2 = v128.load_splat<f32>(factors, 8)
  const f3 = v128.load_splat<f32>(factors, 12)
  while (row < end) {
    let sum = multiplySubtract(f0, v128.load(matrix), v128.load(row))
    sum = multiplySubtract(f1, v128.load(matrix + stride), sum)
    sum = multiplySubtract(f2, v128.load(matrix + 2 * stride), sum)
    v128.store(row, multiplySubtract(f3, v128.load(matrix + 3 * stride), sum))
    row += 16
    matrix += 16
  }
}

/** See `ColumnKernels.refineColumns`. */
export function refineTile(tile: i32, scratch: usize): void {
  const entry = param<usize>(0) + <usize>tile * TILE_BYTES
  const firstRow = load<usize>(entry)
  const rows = load<i32>(entry, 4)
  const d = param<i32>(1)
  const k = param<i32>(2)
  const width = param<i32>(3)
  const stride = param<usize>(4)
  const residual = param<usize>(5) + firstRow * stride
  const hessian = param<usize>(6)
  const changes = param<usize>(7) + firstRow * 8
  const codebook = param<usize>(8) + load<usize>(entry, 8) * <usize>(k * d) * 4
  const perRow = <usize>(width / d) * 2
  const indices = param<usize>(9) + firstRow * perRow
  const steps = param<usize>(10) + firstRow * stride
  const scales = scalesOf(firstRow)
  const scaleStride = param<usize>(13)
  const padded = paddedCentroids(k)
  const coordinates = scratch + VECTOR_BYTES
  const norms = coordinates + aligned(<usize>(padded * d) * 4)
  const metric = scratch + METRIC
  const isTree = hasTrees()
  if (!isTree) spreadCodebook(codebook, k, d, coordinates)
  memory.fill(steps, 0, <usize>rows * stride)
  memory.fill(changes, 0, <usize>rows * 8)
  let changed = 0
  for (let column = 0; column < width; column += d) {
    const at = <usize>column * 4
    const h = hessian + <usize>column * stride
    const from = <usize>((column + d) & ~3) * 4
    for (let a: usize = 0; a < <usize>d; a++) {
      memory.copy(metric + a * <usize>d * 4, h + a * stride + at, <usize>d * 4)
    }
    if (isTree) {
      enterPosition(load<i32>(entry, 8), column / d, scratch)
      for (let r: usize = 0; r < <usize>rows; r++) {
        const index = <i32>load<u16>(indices + r * perRow + <usize>(column / d) * 2)
        const scale: f32 = scales ? load<f32>(scales + r * scaleStride + scaleAt(column)) : 1
        projectMoved(metric, codebook + <usize>(index * d) * 4, residual + r * stride + at, scale, d, scratch)
        seekMoved(r, load<i32>(entry, 8), index, column / d, d, scratch)
      }
      seekAll(rows, d, true)
    } else measureCentroids(coordinates, k, d, metric, norms)
    for (let r: usize = 0; r < <usize>rows; r++) {
      const pull = residual + r * stride + at
      const index = indices + r * perRow + <usize>(column / d) * 2
      const scale: f32 = scales ? load<f32>(scales + r * scaleStride + scaleAt(column)) : 1
      let present = codebook + <usize>load<u16>(index) * <usize>d * 4
      let nearest: i32
      if (isTree) nearest = foundOf(r, k)
      else {
        projectMoved(metric, present, pull, scale, d, scratch)
        nearest = nearestCentroid(scratch, d, coordinates, padded, norms)
      }
      if (nearest == <i32>load<u16>(index)) continue
      let centroid = codebook + <usize>(nearest * d) * 4
      if (scales) {
        present = scaled(present, scale, d, scratch + PRESENT)
        centroid = scaled(centroid, scale, d, scratch + CENTROID)
      }
      const change = lossChange(present, centroid, metric, pull, d)
      if (!(change < 0)) continue
      changed++
      store<u16>(index, <u16>nearest)
      store<f64>(changes + 8 * r, load<f64>(changes + 8 * r) + change)
      const step = steps + r * stride + at
      for (let a: usize = 0; a < <usize>d; a++) {
        store<f32>(step + 4 * a, load<f32>(centroid + 4 * a) - load<f32>(present + 4 * a))
      }
      spread(step, d, h + from, stride, residual + r * stride + from, stride - from)
    }
  }
  store<i32>(entry, changed, 12)
}

/** `-2 M x` of where a vector would best be: its present centroid moved by the pull of the residual. */
// @ts-expect-error: decorator
@inline
function projectMoved(metric: usize, present: usize, pull: usize, scale: f32, d: i32, y: usize): void {
  project(metric, present, d, y)
  for (let a: usize = 0; a < <usize>d << 2; a += 4) {
    // without scales the scale is 1, and dividing by it changes nothing
    store<f32>(y + a, load<f32>(y + a) - 2 * (load<f32>(pull + a) / scale))
  }
}

/** `s^T M s - 2 s . R_P` for the step `s` from the present centroid to another, in float64. */
export function lossChange(present: usize, centroid: usize, metric: usize, pull: usize, d: i32): f64 {
  let change: f64 = 0
  for (let a: usize = 0; a < <usize>d; a++) {
    let sum = -2 * <f64>load<f32>(pull + 4 * a)
    for (let b: usize = 0; b < <usize>d; b++) {
      const step = <f64>load<f32>(centroid + 4 * b) - <f64>load<f32>(present + 4 * b)
      sum += <f64>load<f32>(metric + 4 * (a * <usize>d + b)) * step
    }
    change += (<f64>load<f32>(centroid + 4 * a) - <f64>load<f32>(present + 4 * a)) * sum
  }
  return change
}
