import { param } from '../job'
import { multiplyAdd } from '../simd'

/** `Y = X W^T` with W in bfloat16, whose bits are the upper halves of those of float32. */
const ROWS: i32 = 4

/**
 * A tile is a run of rows of W, read once from memory and then for each row of X from the nearest cache. Parameters:
 * addresses of X, W and Y; rows of X, rows of W, columns, rows of a tile.
 */
export function multiplyBfloatsTile(tile: i32): void {
  const rows = param<i32>(4)
  const cols = param<i32>(5)
  const perTile = param<i32>(6)
  const last = min((tile + 1) * perTile, rows)
  for (let row = tile * perTile; row < last; row += ROWS) {
    // what lacks to ROWS is the last row again
    const w0 = weightsOf(row)
    const w1 = weightsOf(min(row + 1, last - 1))
    const w2 = weightsOf(min(row + 2, last - 1))
    const w3 = weightsOf(min(row + 3, last - 1))
    for (let i = 0; i < param<i32>(3); i++) {
      const x = param<usize>(0) + (<usize>(i * cols) << 2)
      const sums = dotFour(x, w0, w1, w2, w3, cols)
      const y = param<usize>(2) + (<usize>(i * rows + row) << 2)
      if (row + ROWS <= last) v128.store(y, sums)
      else {
        v128.store_lane<f32>(y, sums, 0)
        if (row + 1 < last) v128.store_lane<f32>(y + 4, sums, 1)
        if (row + 2 < last) v128.store_lane<f32>(y + 8, sums, 2)
      }
    }
  }
}

// @ts-expect-error: decorator
@inline
function weightsOf(row: i32): usize {
  return param<usize>(1) + (<usize>(row * param<i32>(5)) << 1)
}

/** The products of one row of X with four of W: values at even and at odd places apart. */
function dotFour(x: usize, w0: usize, w1: usize, w2: usize, w3: usize, cols: i32): v128 {
  const upper = i32x4.splat(0xffff0000)
  let s0 = f32x4.splat(0)
  let s1 = f32x4.splat(0)
  let s2 = f32x4.splat(0)
  let s3 = f32x4.splat(0)
  let j = 0
  for (; j + 8 <= cols; j += 8) {
    const a = v128.load(x + (<usize>j << 2))
    const b = v128.load(x + (<usize>j << 2), 16)
    const even = v128.shuffle<f32>(a, b, 0, 2, 4, 6)
    const odd = v128.shuffle<f32>(a, b, 1, 3, 5, 7)
    const at = <usize>j << 1
    let w = v128.load(w0 + at)
    s0 = multiplyAdd(odd, v128.and(w, upper), multiplyAdd(even, i32x4.shl(w, 16), s0))
    w = v128.load(w1 + at)
    s1 = multiplyAdd(odd, v128.and(w, upper), multiplyAdd(even, i32x4.shl(w, 16), s1))
    w = v128.load(w2 + at)
    s2 = multiplyAdd(odd, v128.and(w, upper), multiplyAdd(even, i32x4.shl(w, 16), s2))
    w = v128.load(w3 + at)
    s3 = multiplyAdd(odd, v128.and(w, upper), multiplyAdd(even, i32x4.shl(w, 16), s3))
  }
  const s01 = f32x4.add(v128.shuffle<f32>(s0, s1, 0, 4, 1, 5), v128.shuffle<f32>(s0, s1, 2, 6, 3, 7))
  const s23 = f32x4.add(v128.shuffle<f32>(s2, s3, 0, 4, 1, 5), v128.shuffle<f32>(s2, s3, 2, 6, 3, 7))
  let sums = f32x4.add(v128.shuffle<f64>(s01, s23, 0, 2), v128.shuffle<f64>(s01, s23, 1, 3))
  for (; j < cols; j++) {
    const at = <usize>j << 1
    let lanes = f32x4.splat(valueAt(w0 + at))
    lanes = f32x4.replace_lane(lanes, 1, valueAt(w1 + at))
    lanes = f32x4.replace_lane(lanes, 2, valueAt(w2 + at))
    lanes = f32x4.replace_lane(lanes, 3, valueAt(w3 + at))
    sums = multiplyAdd(f32x4.splat(load<f32>(x + (<usize>j << 2))), lanes, sums)
  }
  return sums
}

// @ts-expect-error: decorator
@inline
function valueAt(at: usize): f32 {
  return reinterpret<f32>(<u32>load<u16>(at) << 16)
}
