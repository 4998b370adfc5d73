import { activated, softCapped } from './activation'
import { param } from '../job'
import { loadUpTo, storeUpTo } from '../simd'

/** What is done to each value of an array: see `ForwardKernels`. */

/**
 * Parameters: addresses of x (or gate), of what the results are multiplied by (0: nothing) and of y; values, values of a
 * tile; the activation.
 */
export function activateTile(tile: i32): void {
  const x = param<usize>(0)
  const up = param<usize>(1)
  const y = param<usize>(2)
  const kind = param<i32>(5)
  const end = endOf(tile)
  for (let at = startOf(tile); at < end; at += 16) {
    let result = activated(kind, loadUpTo(x + at, x + end))
    if (up != 0) result = f32x4.mul(result, loadUpTo(up + at, up + end))
    storeUpTo(y + at, y + end, result)
  }
}

/** Parameters: addresses of x, what is added and y; values, values of a tile; the factor of what is added. */
export function addTile(tile: i32): void {
  const x = param<usize>(0)
  const added = param<usize>(1)
  const y = param<usize>(2)
  const factor = f32x4.splat(param<f32>(5))
  const end = endOf(tile)
  for (let at = startOf(tile); at < end; at += 16) {
    const term = f32x4.mul(factor, loadUpTo(added + at, added + end))
    storeUpTo(y + at, y + end, f32x4.add(loadUpTo(x + at, x + end), term))
  }
}

/** Parameters: addresses of x and y, a number that is not used; values, values of a tile; the cap. */
export function softCapTile(tile: i32): void {
  const x = param<usize>(0)
  const y = param<usize>(1)
  const cap = f32x4.splat(param<f32>(5))
  const twice = f32x4.div(f32x4.splat(2), cap)
  const end = endOf(tile)
  for (let at = startOf(tile); at < end; at += 16) {
    storeUpTo(y + at, y + end, softCapped(loadUpTo(x + at, x + end), cap, twice))
  }
}

/** Bytes in front of a tile's values. */
// @ts-expect-error: decorator
@inline
function startOf(tile: i32): usize {
  return <usize>(tile * param<i32>(4)) << 2
}

// @ts-expect-error: decorator
@inline
function endOf(tile: i32): usize {
  return <usize>min((tile + 1) * param<i32>(4), param<i32>(3)) << 2
}
