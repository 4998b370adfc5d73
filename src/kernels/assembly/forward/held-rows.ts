import { param } from '../job'

/**
 * Keys and values as attention finds them: float32, or codes of 8 bits with a scale for each position and key-value head.
 * Codes are expanded by runs of positions into a thread's scratch, where the loops for float32 then read them.
 */

/** Positions that are read at once: their values stay in the nearest cache while all heads of a group take them. */
export const ROWS_AT_ONCE: i32 = 64

/** The parameters that tell where keys and values lie; those of their scales follow PARAM_SCALES in the same order. */
export const KEYS: i32 = 1
export const VALUES: i32 = 2
const PARAM_SCALES: i32 = 13

/** Bytes between the rows that `rowsOf` gives. */
export function rowStep(which: i32): usize {
  const dims = param<i32>(9)
  if (param<usize>(PARAM_SCALES + which) == 0) return <usize>(param<i32>(8) * dims) << 2
  return <usize>((dims + 3) & ~3) << 2
}

/**
 * `count` rows of a key-value head in float32, ROWS_AT_ONCE of them at most.
 *
 * @param row the first of them: sequence * capacity + position
 * @param tile scratch of ROWS_AT_ONCE rows, dimensions rounded up to whole vectors
 */
export function rowsOf(which: i32, row: i32, kvHead: i32, count: i32, tile: usize): usize {
  const dims = param<i32>(9)
  const kvHeads = param<i32>(8)
  const scales = param<usize>(PARAM_SCALES + which)
  const run = <usize>(row * kvHeads + kvHead)
  const values = param<usize>(which)
  if (scales == 0) return values + ((run * dims) << 2)
  expandRows(values + run * dims, <usize>(kvHeads * dims), scales + (run << 2), <usize>kvHeads << 2, count, dims, tile)
  return tile
}

/** Each code of a row times the row's scale. */
function expandRows(
  codes: usize,
  codeStep: usize,
  scales: usize,
  scaleStep: usize,
  count: i32,
  dims: i32,
  to: usize,
): void {
  const rowBytes = <usize>((dims + 3) & ~3) << 2
  for (let row = 0; row < count; row++) {
    const scale = load<f32>(scales)
    const factors = f32x4.splat(scale)
    let at = 0
    for (; at + 16 <= dims; at += 16) {
      const bytes = v128.load(codes + at)
      const low = i16x8.extend_low_i8x16_s(bytes)
      const high = i16x8.extend_high_i8x16_s(bytes)
      const y = to + (<usize>at << 2)
      v128.store(y, f32x4.mul(factors, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(low))))
      v128.store(y, f32x4.mul(factors, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(low))), 16)
      v128.store(y, f32x4.mul(factors, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(high))), 32)
      v128.store(y, f32x4.mul(factors, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(high))), 48)
    }
    for (; at < dims; at++) store<f32>(to + (<usize>at << 2), scale * <f32>load<i8>(codes + at))
    codes += codeStep
    scales += scaleStep
    to += rowBytes
  }
}
