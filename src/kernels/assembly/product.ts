import { param } from './job'
import { multiplyAdd } from './simd'

/**
 * Matrix product by packed panels. Strips of COLUMNS columns of B and of ROWS rows of A are copied so that the inner
 * loop reads both in order; ROWS x COLUMNS sums stay in registers over one panel of the inner dimension.
 */
const COLUMNS: i32 = 8
// 16 vector registers: larger tiles spill. A fused multiply-add needs no register for the product.
const ROWS: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 5

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
function packAcross(from: usize, stride: usize, depth: i32, width: i32, full: i32, to: usize): void {
  const step = <usize>full * 4
  for (let j = 0; j < full; j++) {
    let at = to + <usize>j * 4
    if (j < width) {
      let source = from + <usize>j * stride
      for (let p = 0; p < depth; p++) {
        store<f32>(at, load<f32>(source))
        source += 4
        at += step
      }
    } else {
      for (let p = 0; p < depth; p++) {
        store<f32>(at, 0)
        at += step
      }
    }
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
  const edge = scratch
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
      const from = rows + <usize>((row - top) * depth) * 4
      const at = c + <usize>row * cStride + <usize>column * 4
      if (height == ROWS && width == COLUMNS) {
        multiplyStrips(from, strip, depth, alpha, isAdding, at, cStride)
      } else {
        multiplyStrips(from, strip, depth, alpha, 0, edge, COLUMNS * 4)
        addEdge(edge, height, width, isAdding, at, cStride)
      }
    }
  }
}

function addEdge(edge: usize, height: i32, width: i32, isAdding: i32, c: usize, stride: usize): void {
  for (let i = 0; i < height; i++) {
    const row = c + <usize>i * stride
    for (let j = 0; j < width; j++) {
      const at = row + <usize>j * 4
      const value = load<f32>(edge + <usize>(i * COLUMNS + j) * 4)
      store<f32>(at, isAdding ? load<f32>(at) + value : value)
    }
  }
}

// @ts-expect-error: decorator
@inline
function put(at: usize, alpha: v128, left: v128, right: v128, isAdding: i32): void {
  left = f32x4.mul(left, alpha)
  right = f32x4.mul(right, alpha)
  if (isAdding) {
    left = f32x4.add(v128.load(at), left)
    right = f32x4.add(v128.load(at, 16), right)
  }
  v128.store(at, left)
  v128.store(at, right, 16)
}

/** `C = alpha A B` or `C += alpha A B` for one strip of A (ROWS rows) and one of B (COLUMNS columns). */
function multiplyStrips(
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
  let s40 = f32x4.splat(0)
  let s41 = f32x4.splat(0)
  let s50 = f32x4.splat(0)
  let s51 = f32x4.splat(0)
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
    x = v128.load_splat<f32>(a, 16)
    s40 = multiplyAdd(x, b0, s40)
    s41 = multiplyAdd(x, b1, s41)
    if (ROWS == 6) {
      x = v128.load_splat<f32>(a, 20)
      s50 = multiplyAdd(x, b0, s50)
      s51 = multiplyAdd(x, b1, s51)
    }
    a += ROWS * 4
    b += COLUMNS * 4
  } while (a < end)
  const factor = f32x4.splat(alpha)
  put(c, factor, s00, s01, isAdding)
  put(c + stride, factor, s10, s11, isAdding)
  put(c + 2 * stride, factor, s20, s21, isAdding)
  put(c + 3 * stride, factor, s30, s31, isAdding)
  put(c + 4 * stride, factor, s40, s41, isAdding)
  if (ROWS == 6) put(c + 5 * stride, factor, s50, s51, isAdding)
}
