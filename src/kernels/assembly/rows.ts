import { exponential } from './exponential'
import { param } from './job'

/** Between the products of a block: see `ForwardKernels`. */

/** Parameters: addresses of x, scale and y; rows, columns, rows of a tile; epsilon. */
export function normalizeTile(tile: i32): void {
  const cols = param<i32>(4)
  const first = tile * param<i32>(5)
  const last = min(first + param<i32>(5), param<i32>(3))
  for (let row = first; row < last; row++) {
    const offset = <usize>row * (<usize>cols << 2)
    normalizeRow(param<usize>(0) + offset, param<usize>(1), param<usize>(2) + offset, cols, param<f64>(6))
  }
}

function normalizeRow(x: usize, scale: usize, y: usize, cols: i32, epsilon: f64): void {
  const bytes = <usize>cols << 2
  const whole = bytes & ~15
  let even = f64x2.splat(0)
  let odd = f64x2.splat(0)
  for (let at: usize = 0; at < whole; at += 16) {
    const low = f64x2.promote_low_f32x4(v128.load64_zero(x + at))
    const high = f64x2.promote_low_f32x4(v128.load64_zero(x + at, 8))
    even = f64x2.add(even, f64x2.mul(low, low))
    odd = f64x2.add(odd, f64x2.mul(high, high))
  }
  const sums = f64x2.add(even, odd)
  let sum = f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1)
  for (let at = whole; at < bytes; at += 4) {
    const value = <f64>load<f32>(x + at)
    sum += value * value
  }
  const factor = <f32>(1 / Math.sqrt(sum / <f64>cols + epsilon))
  const factors = f32x4.splat(factor)
  for (let at: usize = 0; at < whole; at += 16) {
    v128.store(y + at, f32x4.mul(f32x4.mul(v128.load(x + at), factors), v128.load(scale + at)))
  }
  for (let at = whole; at < bytes; at += 4) {
    store<f32>(y + at, load<f32>(x + at) * factor * load<f32>(scale + at))
  }
}

/** Parameters: addresses of gate, up and y; values, values of a tile (multiples of 4; arrays end in whole vectors). */
export function gateTile(tile: i32): void {
  const gate = param<usize>(0)
  const up = param<usize>(1)
  const y = param<usize>(2)
  const first = tile * param<i32>(4)
  const end = <usize>min(first + param<i32>(4), param<i32>(3)) << 2
  const one = f32x4.splat(1)
  for (let at = <usize>first << 2; at < end; at += 16) {
    const x = v128.load(gate + at)
    const silu = f32x4.div(x, f32x4.add(one, exponential(f32x4.neg(x))))
    v128.store(y + at, f32x4.mul(silu, v128.load(up + at)))
  }
}
