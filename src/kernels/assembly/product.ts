import { param } from './job'
import { multiplyAdd } from './simd'

/**
 * Matrix product by packed panels. Strips of COLUMNS columns of B and of ROWS rows of A are copied so that the inner
 * loop reads both in order; ROWS x COLUMNS sums stay in registers over one panel of the inner dimension.
 */
export const COLUMNS: i32 = 8
// V8 loads all operands of a round before it multiplies, into 15 registers: 8 sums, 2 + 4 operands and a product fill
// them. 5 and 6 rows, 12 columns or two rounds at once spill, and are slower by a fifth to a half
export const ROWS: i32 = 4

/** Strips of B that one tile of the packing job copies. */
const STRIPS_PER_TILE: i32 = 8

/** Packs columns of B: depth x width at `source`, or width x depth where it is stored transposed. */
export function packRight(tile: i32): void {
  const source = param<usize>(0)
  const stride = param<usize>(1) << 2
  const depth = param<i32>(2)
  const width = param<i32>(3)
  const isTransposed = param<i32>(4)
  const target = param<usize>(5)
  const first = tile * STRIPS_PER_TILE
  const last = min(first + STRIPS_PER_TILE, (width + COLUMNS - 1) / COLUMNS)
  for (let strip = first; strip < last; strip++) {
    const column = strip * COLUMNS
    const to = target + <usize>(strip * depth * COLUMNS) * 4
    const columns = min(COLUMNS, width - column)
    if (isTransposed) packAcross(source + <usize>column * stride, stride, depth, columns, COLUMNS, to)
    else packAlong(source + <usize>column * 4, stride, depth, columns, COLUMNS, to)
  }
}

/** Copies `depth` rows of `width` contiguous values each; what lacks to `full` becomes zero. */
// @ts-expect-error: decorator
@inline
function packAlong(from: usize, stride: usize, depth: i32, width: i32, full: i32, to: usize): void {
  if (width == 8 && full == 8) {
    for (let p = 0; p < depth; p++) {
      v128.store(to, v128.load(from))
      v128.store(to, v128.load(from, 16), 16)
      from += stride
      to += 32
    }
    return
  }
  for (let p = 0; p < depth; p++) {
    for (let j = 0; j < full; j++) {
      store<f32>(to + <usize>j * 4, j < width ? load<f32>(from + <usize>j * 4) : 0)
    }
    from += stride
    to += <usize>full * 4
  }
}

/** The transpose: `width` rows of `depth` contiguous values become `depth` rows of `full`. */
// @ts-expect-error: decorator
@inline
export function packAcross(from: usize, stride: usize, depth: i32, width: i32, full: i32, to: usize): void {
  const step = <usize>full * 4
  transpose(from, stride, depth, width, to, step)
  for (let j = width; j < full; j++) {
    let at = to + <usize>j * 4
    for (let p = 0; p < depth; p++) {
      store<f32>(at, 0)
      at += step
    }
  }
}

/** `width` rows of `depth` contiguous values become `depth` rows, `step` bytes apart, of `width`. */
// @ts-expect-error: decorator
@inline
export function transpose(from: usize, stride: usize, depth: i32, width: i32, to: usize, step: usize): void {
  let j = 0
  for (; j + 4 <= width; j += 4) packFourAcross(from + <usize>j * stride, stride, depth, to + <usize>j * 4, step)
  for (; j + 2 <= width; j += 2) packTwoAcross(from + <usize>j * stride, stride, depth, to + <usize>j * 4, step)
  if (j < width) {
    let source = from + <usize>j * stride
    let at = to + <usize>j * 4
    for (let p = 0; p < depth; p++) {
      store<f32>(at, load<f32>(source))
      source += 4
      at += step
    }
  }
}

/** Four rows become columns, 4 x 4 values at a time. */
function packFourAcross(from: usize, stride: usize, depth: i32, to: usize, step: usize): void {
  let p = 0
  for (; p + 4 <= depth; p += 4) {
    const a = v128.load(from)
    const b = v128.load(from + stride)
    const c = v128.load(from + 2 * stride)
    const d = v128.load(from + 3 * stride)
    const abLow = v128.shuffle<f32>(a, b, 0, 4, 1, 5)
    const abHigh = v128.shuffle<f32>(a, b, 2, 6, 3, 7)
    const cdLow = v128.shuffle<f32>(c, d, 0, 4, 1, 5)
    const cdHigh = v128.shuffle<f32>(c, d, 2, 6, 3, 7)
    v128.store(to, v128.shuffle<f64>(abLow, cdLow, 0, 2))
    v128.store(to + step, v128.shuffle<f64>(abLow, cdLow, 1, 3))
    v128.store(to + 2 * step, v128.shuffle<f64>(abHigh, cdHigh, 0, 2))
    v128.store(to + 3 * step, v128.shuffle<f64>(abHigh, cdHigh, 1, 3))
    from += 16
    to += 4 * step
  }
  for (; p < depth; p++) {
    for (let i: usize = 0; i < 4; i++) store<f32>(to + 4 * i, load<f32>(from + i * stride))
    from += 4
    to += step
  }
}

/** Two rows become columns, 2 x 4 values at a time. */
function packTwoAcross(from: usize, stride: usize, depth: i32, to: usize, step: usize): void {
  let p = 0
  for (; p + 4 <= depth; p += 4) {
    const a = v128.load(from)
    const b = v128.load(from + stride)
    const low = v128.shuffle<f32>(a, b, 0, 4, 1, 5)
    const high = v128.shuffle<f32>(a, b, 2, 6, 3, 7)
    v128.store64_lane(to, low, 0)
    v128.store64_lane(to + step, low, 1)
    v128.store64_lane(to + 2 * step, high, 0)
    v128.store64_lane(to + 3 * step, high, 1)
    from += 16
    to += 4 * step
  }
  for (; p < depth; p++) {
    store<f32>(to, load<f32>(from))
    store<f32>(to, load<f32>(from + stride), 4)
    from += 4
    to += step
  }
}

/**
 * One tile of C: packs its rows of A, then adds `alpha A B` strip by strip.
 *
 * Tiles run down the rows first. With `upper`, what lies wholly below the diagonal of C is left out.
 */
export function multiplyTile(tile: i32, scratch: usize): void {
  const a = param<usize>(0)
  const aStride = param<usize>(1) << 2
  const isTransposed = param<i32>(2)
  const packed = param<usize>(3)
  const c = param<usize>(4)
  const cStride = param<usize>(5) << 2
  const m = param<i32>(6)
  const n = param<i32>(7)
  const depth = param<i32>(8)
  const tileRows = param<i32>(9)
  const tileColumns = param<i32>(10)
  const alpha = param<f32>(11)
  const isAdding = param<i32>(12)
  const diagonal = param<i32>(13)
  const tilesDown = (m + tileRows - 1) / tileRows
  const top = (tile % tilesDown) * tileRows
  const left = (tile / tilesDown) * tileColumns
  const bottom = min(top + tileRows, m)
  const right = min(left + tileColumns, n)
  if (top + diagonal >= right) return
  const sums = scratch
  const rows = scratch + 512
  for (let row = top; row < bottom; row += ROWS) {
    const to = rows + <usize>((row - top) * depth) * 4
    const height = min(ROWS, bottom - row)
    if (isTransposed) packAlong(a + <usize>row * 4, aStride, depth, height, ROWS, to)
    else packAcross(a + <usize>row * aStride, aStride, depth, height, ROWS, to)
  }
  for (let column = left; column < right; column += COLUMNS) {
    const strip = packed + <usize>(column * depth) * 4
    const width = min(COLUMNS, right - column)
    for (let row = top; row < bottom; row += ROWS) {
      if (row + diagonal >= column + width) break
      const height = min(ROWS, bottom - row)
      const left = rows + <usize>((row - top) * depth) * 4
      const target = c + <usize>row * cStride + <usize>column * 4
      if (height == ROWS && width == COLUMNS) {
        multiplyStrips(left, strip, depth, alpha, isAdding, target, cStride)
      } else {
        multiplyStrips(left, strip, depth, alpha, 0, sums, COLUMNS * 4)
        putEdge(sums, height, width, isAdding, target, cStride)
      }
    }
  }
}

/** `C = S` or `C += S` for part of the products of two strips, where C ends. */
export function putEdge(sums: usize, height: i32, width: i32, isAdding: i32, c: usize, stride: usize): void {
  for (let i = 0; i < height; i++) {
    for (let j: usize = 0; j < <usize>width; j++) {
      const value = load<f32>(sums + 4 * j)
      store<f32>(c + 4 * j, isAdding ? load<f32>(c + 4 * j) + value : value)
    }
    sums += COLUMNS * 4
    c += stride
  }
}

/** `C = alpha A B` or `C += alpha A B` for a strip of A (ROWS rows) and one of B (COLUMNS columns); depth at least 1. */
export function multiplyStrips(
  a: usize,
  b: usize,
  depth: i32,
  alpha: f32,
  isAdding: i32,
  c: usize,
  stride: usize,
): void {
  let s00 = f32x4.splat(0)
  let s01 = f32x4.splat(0)
  let s10 = f32x4.splat(0)
  let s11 = f32x4.splat(0)
  let s20 = f32x4.splat(0)
  let s21 = f32x4.splat(0)
  let s30 = f32x4.splat(0)
  let s31 = f32x4.splat(0)
  const end = a + <usize>(depth * ROWS) * 4
  do {
    const b0 = v128.load(b)
    const b1 = v128.load(b, 16)
    let x = v128.load_splat<f32>(a)
    s00 = multiplyAdd(x, b0, s00)
    s01 = multiplyAdd(x, b1, s01)
    x = v128.load_splat<f32>(a, 4)
    s10 = multiplyAdd(x, b0, s10)
    s11 = multiplyAdd(x, b1, s11)
    x = v128.load_splat<f32>(a, 8)
    s20 = multiplyAdd(x, b0, s20)
    s21 = multiplyAdd(x, b1, s21)
    x = v128.load_splat<f32>(a, 12)
    s30 = multiplyAdd(x, b0, s30)
    s31 = multiplyAdd(x, b1, s31)
    a += ROWS * 4
    b += COLUMNS * 4
  } while (a < end)
  const factor = f32x4.splat(alpha)
  putRow(s00, s01, factor, isAdding, c)
  putRow(s10, s11, factor, isAdding, c + stride)
  putRow(s20, s21, factor, isAdding, c + 2 * stride)
  putRow(s30, s31, factor, isAdding, c + 3 * stride)
}

// @ts-expect-error: decorator
@inline
function putRow(left: v128, right: v128, factor: v128, isAdding: i32, c: usize): void {
  left = f32x4.mul(left, factor)
  right = f32x4.mul(right, factor)
  if (isAdding) {
    left = f32x4.add(v128.load(c), left)
    right = f32x4.add(v128.load(c, 16), right)
  }
  v128.store(c, left)
  v128.store(c, right, 16)
}
