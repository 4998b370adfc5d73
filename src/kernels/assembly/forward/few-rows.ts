import { param } from '../job'
import { COLUMNS, multiplyStrips, packAcross, putEdge, ROWS } from '../product'
import { multiplyAdd } from '../simd'

/**
 * `C = alpha A B^T` or `C += alpha A B^T` for few rows of A: B, which is read from memory once and takes nearly all of the
 * time, is not packed as a whole. All sums are those of `multiplyTile`, bit for bit: terms in their order, cut into slices
 * of the inner dimension.
 */

/** Rows of B whose sums with one row of A run side by side: fewer would wait for each addition to end. */
const STRIP: i32 = 16
const QUAD: i32 = 4

/**
 * A tile is a run of rows of B. Parameters: address and stride of A, B and C; rows of A, rows of B, inner dimension, rows
 * of a tile, terms of a slice; alpha; whether C is added to.
 *
 * Scratch, unless A is one row: A packed | a strip of B of one slice | the products where C ends
 */
export function multiplyFewTile(tile: i32, scratch: usize): void {
  const perTile = param<i32>(9)
  const first = tile * perTile
  const last = min(first + perTile, param<i32>(7))
  if (param<i32>(6) == 1) oneRow(first, last)
  else fewRows(first, last, scratch)
}

function oneRow(first: i32, last: i32): void {
  const stride = param<usize>(3) << 2
  const k = param<i32>(8)
  const slice = param<i32>(10)
  let row = first
  for (; row + STRIP <= last; row += STRIP) {
    const b = param<usize>(2) + <usize>row * stride
    for (let from = 0; from < k; from += slice) {
      const at = <usize>from << 2
      multiplyStrip(param<usize>(0) + at, b + at, stride, min(slice, k - from), from > 0, cAt(row))
    }
  }
  for (; row < last; row += QUAD) {
    const count = min(QUAD, last - row)
    const b = param<usize>(2) + <usize>row * stride
    for (let from = 0; from < k; from += slice) {
      const at = <usize>from << 2
      multiplyQuad(param<usize>(0) + at, b + at, stride, count, min(slice, k - from), from > 0, cAt(row))
    }
  }
}

// @ts-expect-error: decorator
@inline
function cAt(column: i32): usize {
  return param<usize>(4) + (<usize>column << 2)
}

/** One row of A with STRIP rows of B. */
function multiplyStrip(a: usize, b: usize, stride: usize, depth: i32, isLater: boolean, c: usize): void {
  const b1 = b + 4 * stride
  const b2 = b + 8 * stride
  const b3 = b + 12 * stride
  let s0 = f32x4.splat(0)
  let s1 = f32x4.splat(0)
  let s2 = f32x4.splat(0)
  let s3 = f32x4.splat(0)
  const bytes = <usize>depth << 2
  const lines = bytes & ~63
  const whole = bytes & ~15
  for (let at: usize = 0; at < lines; at += 64) {
    s0 = addLine(a + at, b + at, stride, s0)
    s1 = addLine(a + at, b1 + at, stride, s1)
    s2 = addLine(a + at, b2 + at, stride, s2)
    s3 = addLine(a + at, b3 + at, stride, s3)
  }
  for (let at = lines; at < whole; at += 16) {
    const x = a + at
    s0 = addFour(x, b + at, stride, s0)
    s1 = addFour(x, b1 + at, stride, s1)
    s2 = addFour(x, b2 + at, stride, s2)
    s3 = addFour(x, b3 + at, stride, s3)
  }
  for (let at = whole; at < bytes; at += 4) {
    const x = v128.load_splat<f32>(a + at)
    s0 = multiplyAdd(x, gathered(b + at, stride), s0)
    s1 = multiplyAdd(x, gathered(b1 + at, stride), s1)
    s2 = multiplyAdd(x, gathered(b2 + at, stride), s2)
    s3 = multiplyAdd(x, gathered(b3 + at, stride), s3)
  }
  const isAdding = isLater || param<i32>(12) != 0
  put(s0, isAdding, c)
  put(s1, isAdding, c + 16)
  put(s2, isAdding, c + 32)
  put(s3, isAdding, c + 48)
}

/** One row of A with up to QUAD rows of B, one term after the other. */
function multiplyQuad(
  a: usize,
  b: usize,
  stride: usize,
  count: i32,
  depth: i32,
  isLater: boolean,
  c: usize,
): void {
  const isAdding = isLater || param<i32>(12) != 0
  if (count == QUAD) {
    let sums = f32x4.splat(0)
    const bytes = <usize>depth << 2
    const whole = bytes & ~15
    for (let at: usize = 0; at < whole; at += 16) sums = addFour(a + at, b + at, stride, sums)
    for (let at = whole; at < bytes; at += 4) {
      sums = multiplyAdd(v128.load_splat<f32>(a + at), gathered(b + at, stride), sums)
    }
    put(sums, isAdding, c)
    return
  }
  for (let row = 0; row < count; row++) {
    let sum = f32x4.splat(0)
    const end = a + (<usize>depth << 2)
    let at = b
    for (let x = a; x < end; x += 4) {
      sum = multiplyAdd(v128.load_splat<f32>(x), v128.load_splat<f32>(at), sum)
      at += 4
    }
    const value = f32x4.extract_lane(sum, 0) * param<f32>(11)
    store<f32>(c, isAdding ? load<f32>(c) + value : value)
    b += stride
    c += 4
  }
}

/** Adds sixteen terms: of each row of B a whole line of the cache, which rows that are a power of 2 apart would evict. */
// @ts-expect-error: decorator
@inline
function addLine(x: usize, b: usize, stride: usize, sums: v128): v128 {
  sums = addFour(x, b, stride, sums)
  sums = addFour(x + 16, b + 16, stride, sums)
  sums = addFour(x + 32, b + 32, stride, sums)
  return addFour(x + 48, b + 48, stride, sums)
}

/** Adds four terms, those of the four values of A at `x`, to the sums of four rows of B. */
// @ts-expect-error: decorator
@inline
function addFour(x: usize, b: usize, stride: usize, sums: v128): v128 {
  const r0 = v128.load(b)
  const r1 = v128.load(b + stride)
  const r2 = v128.load(b + 2 * stride)
  const r3 = v128.load(b + 3 * stride)
  const low01 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5)
  const high01 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7)
  const low23 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5)
  const high23 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7)
  sums = multiplyAdd(v128.load_splat<f32>(x, 0), v128.shuffle<f64>(low01, low23, 0, 2), sums)
  sums = multiplyAdd(v128.load_splat<f32>(x, 4), v128.shuffle<f64>(low01, low23, 1, 3), sums)
  sums = multiplyAdd(v128.load_splat<f32>(x, 8), v128.shuffle<f64>(high01, high23, 0, 2), sums)
  return multiplyAdd(v128.load_splat<f32>(x, 12), v128.shuffle<f64>(high01, high23, 1, 3), sums)
}

/** One value of each of four rows. */
// @ts-expect-error: decorator
@inline
function gathered(b: usize, stride: usize): v128 {
  let values = v128.load32_zero(b)
  values = v128.load_lane<f32>(b + stride, values, 1)
  values = v128.load_lane<f32>(b + 2 * stride, values, 2)
  return v128.load_lane<f32>(b + 3 * stride, values, 3)
}

// @ts-expect-error: decorator
@inline
function put(sums: v128, isAdding: boolean, c: usize): void {
  const values = f32x4.mul(sums, f32x4.splat(param<f32>(11)))
  v128.store(c, isAdding ? f32x4.add(v128.load(c), values) : values)
}

function fewRows(first: i32, last: i32, scratch: usize): void {
  const m = param<i32>(6)
  const k = param<i32>(8)
  const slice = param<i32>(10)
  const alpha = param<f32>(11)
  const aStride = param<usize>(1) << 2
  const bStride = param<usize>(3) << 2
  const cStride = param<usize>(5) << 2
  const rows = scratch
  const packedRows = (m + ROWS - 1) & ~(ROWS - 1)
  const strip = rows + (<usize>(packedRows * k) << 2)
  const sums = strip + (<usize>(COLUMNS * slice) << 2)
  for (let from = 0; from < k; from += slice) {
    const depth = min(slice, k - from)
    let to = rows + (<usize>(packedRows * from) << 2)
    for (let row = 0; row < m; row += ROWS) {
      const a = param<usize>(0) + <usize>row * aStride + (<usize>from << 2)
      packAcross(a, aStride, depth, min(ROWS, m - row), ROWS, to)
      to += <usize>(ROWS * depth) << 2
    }
  }
  for (let column = first; column < last; column += COLUMNS) {
    const width = min(COLUMNS, last - column)
    for (let from = 0; from < k; from += slice) {
      const depth = min(slice, k - from)
      const b = param<usize>(2) + <usize>column * bStride + (<usize>from << 2)
      packAcross(b, bStride, depth, width, COLUMNS, strip)
      const isAdding = i32(from > 0 || param<i32>(12) != 0)
      let left = rows + (<usize>(packedRows * from) << 2)
      for (let row = 0; row < m; row += ROWS) {
        const height = min(ROWS, m - row)
        const target = cAt(column) + <usize>row * cStride
        if (height == ROWS && width == COLUMNS) {
          multiplyStrips(left, strip, depth, alpha, isAdding, target, cStride)
        } else {
          multiplyStrips(left, strip, depth, alpha, 0, sums, COLUMNS * 4)
          putEdge(sums, height, width, isAdding, target, cStride)
        }
        left += <usize>(ROWS * depth) << 2
      }
    }
  }
}
