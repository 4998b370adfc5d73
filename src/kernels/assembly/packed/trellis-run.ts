import { PAIRS } from '../job'

/** Rows that are multiplied at once. */
export const TILE: i32 = 16

/** A type as large as a code of so many bits: where a load reads beyond an address may follow from types alone. */
class Width1 {
  a: u8
}
class Width2 extends Width1 {
  b: u8
}
class Width3 extends Width2 {
  c: u8
}
class Width4 extends Width3 {
  d: u8
}
class Width5 extends Width4 {
  e: u8
}
class Width6 extends Width5 {
  f: u8
}
class Width7 extends Width6 {
  g: u8
}
class Width8 extends Width7 {
  h: u8
}

/**
 * Adds the products of tiles of 16 rows of `count` columns of vectors, whose codes have `width` bits, with two operands: for
 * each tile to four sums of 4 rows each for the first, then for the second, up to `end`. One tile after the other, so that the
 * processor can tell where the columns of a tile end.
 *
 * @param codes the first tile in the first stream, the next ones in front of it; the other streams follow, `stride` bytes
 * apart
 * @param x pairs of 16 bits of the first operand, `step` bytes apart; those of the second are `apart` bytes behind
 * @param mask of a number times 4
 */
export function addRun(
  width: i32,
  codes: usize,
  stride: usize,
  count: i32,
  x: usize,
  step: usize,
  apart: usize,
  mask: u32,
  sums: usize,
  end: usize,
): void {
  switch (width) {
    case 1:
      return addColumns<Width1>(codes, stride, count, x, step, apart, mask, sums, end)
    case 2:
      return addColumns<Width2>(codes, stride, count, x, step, apart, mask, sums, end)
    case 3:
      return addColumns<Width3>(codes, stride, count, x, step, apart, mask, sums, end)
    case 4:
      return addColumns<Width4>(codes, stride, count, x, step, apart, mask, sums, end)
    case 5:
      return addColumns<Width5>(codes, stride, count, x, step, apart, mask, sums, end)
    case 6:
      return addColumns<Width6>(codes, stride, count, x, step, apart, mask, sums, end)
    case 7:
      return addColumns<Width7>(codes, stride, count, x, step, apart, mask, sums, end)
    case 8:
      return addColumns<Width8>(codes, stride, count, x, step, apart, mask, sums, end)
    default:
      return addWide(width, codes, stride, count, x, step, apart, mask, sums, end)
  }
}

/** The pairs of four rows, whose numbers are `step` bits apart, that of the last row lowest. */
// @ts-expect-error: decorator
@inline
export function fourPairs(bits: u64, step: u64, mask: u32): v128 {
  const last = <usize>(<u32>bits & mask)
  bits >>= step
  const third = <usize>(<u32>bits & mask)
  bits >>= step
  const second = <usize>(<u32>bits & mask)
  let four = v128.load32_zero(<usize>(<u32>(bits >> step) & mask), PAIRS)
  four = v128.load_lane<u32>(second, four, 1, PAIRS)
  four = v128.load_lane<u32>(third, four, 2, PAIRS)
  return v128.load_lane<u32>(last, four, 3, PAIRS)
}

/** As {@link addColumns} for any width, four rows of all columns at a time. */
function addWide(
  width: i32,
  codes: usize,
  stride: usize,
  count: i32,
  x: usize,
  step: usize,
  apart: usize,
  mask: u32,
  sums: usize,
  end: usize,
): void {
  for (let tile = codes; sums < end; tile -= 2 * <usize>width, sums += 64) {
    for (let row = 12; row >= 0; row -= 4, sums += 16) {
      const bit = row * width
      let a = v128.load(sums)
      let b = v128.load(sums, 64)
      let at = tile + <usize>(bit >> 3)
      for (let i = 0, pair = x; i < count; i++, pair += step, at += stride) {
        const four = fourPairs(load<u64>(at) >> <u64>(bit & 7), <u64>width, mask)
        a = i32x4.add(a, i32x4.dot_i16x8_s(four, v128.load32_splat(pair)))
        b = i32x4.add(b, i32x4.dot_i16x8_s(four, v128.load32_splat(pair + apart)))
      }
      v128.store(sums, a)
      v128.store(sums, b, 64)
    }
  }
}

/** Where the pair of a row is: its number, the lowest bits of a stream from `bit` on, times 4. */
// @ts-expect-error: decorator
@inline
function place(bytes: u32, bit: usize, mask: u32): usize {
  return <usize>((bytes >> (<u32>bit & 7)) & mask)
}

/** Types as large as a count of rows, for the same reason. */
class Rows0 {}
class Rows4 {
  a: u32
}
class Rows8 extends Rows4 {
  b: u32
}
class Rows12 extends Rows8 {
  c: u32
}

/**
 * The pairs of four rows of a tile, behind which so many more are `Below`. One load and a shift make a number, one more load
 * its pair: that is most of the work.
 */
// @ts-expect-error: decorator
@inline
function fourRows<W, Below>(at: usize, mask: u32): v128 {
  const w = offsetof<W>()
  const last = offsetof<Below>()
  let four = v128.load32_zero(place(load<u32>(at, ((offsetof<Below>() + 3) * offsetof<W>()) >> 3), (last + 3) * w, mask), PAIRS)
  four = v128.load_lane<u32>(place(load<u32>(at, ((offsetof<Below>() + 2) * offsetof<W>()) >> 3), (last + 2) * w, mask), four, 1, PAIRS)
  four = v128.load_lane<u32>(place(load<u32>(at, ((offsetof<Below>() + 1) * offsetof<W>()) >> 3), (last + 1) * w, mask), four, 2, PAIRS)
  return v128.load_lane<u32>(place(load<u32>(at, (offsetof<Below>() * offsetof<W>()) >> 3), last * w, mask), four, 3, PAIRS)
}

function addColumns<W>(
  codes: usize,
  stride: usize,
  count: i32,
  x: usize,
  step: usize,
  apart: usize,
  mask: u32,
  sums: usize,
  end: usize,
): void {
  const w = offsetof<W>()
  // the widths of most columns at 1.5 to 2.5 bits; of others the code is not worth its bytes
  if (offsetof<W>() >= 3 && offsetof<W>() <= 5 && apart == 0) {
    for (; sums + 128 < end; codes -= 4 * w, sums += 256) addAlone<W>(codes, stride, count, x, step, mask, sums)
  }
  for (let tile = codes; sums < end; tile -= 2 * w, sums += 128) {
    const last = tile + <usize>count * stride
    let a0 = v128.load(sums)
    let a1 = v128.load(sums, 16)
    let a2 = v128.load(sums, 32)
    let a3 = v128.load(sums, 48)
    let b0 = v128.load(sums, 64)
    let b1 = v128.load(sums, 80)
    let b2 = v128.load(sums, 96)
    let b3 = v128.load(sums, 112)
    for (let at = tile, pair = x; at < last; at += stride, pair += step) {
      const first = v128.load32_splat(pair)
      const four0 = fourRows<W, Rows12>(at, mask)
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(four0, first))
      const four1 = fourRows<W, Rows8>(at, mask)
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(four1, first))
      const four2 = fourRows<W, Rows4>(at, mask)
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(four2, first))
      const four3 = fourRows<W, Rows0>(at, mask)
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(four3, first))
      if (apart == 0) continue
      const second = v128.load32_splat(pair + apart)
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(four0, second))
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(four1, second))
      b2 = i32x4.add(b2, i32x4.dot_i16x8_s(four2, second))
      b3 = i32x4.add(b3, i32x4.dot_i16x8_s(four3, second))
    }
    v128.store(sums, a0)
    v128.store(sums, a1, 16)
    v128.store(sums, a2, 32)
    v128.store(sums, a3, 48)
    v128.store(sums, b0, 64)
    v128.store(sums, b1, 80)
    v128.store(sums, b2, 96)
    v128.store(sums, b3, 112)
  }
}

/** Two tiles and one operand. */
function addAlone<W>(tile: usize, stride: usize, count: i32, x: usize, step: usize, mask: u32, sums: usize): void {
  const w = offsetof<W>()
  const last = tile + <usize>count * stride
  let a0 = v128.load(sums)
  let a1 = v128.load(sums, 16)
  let a2 = v128.load(sums, 32)
  let a3 = v128.load(sums, 48)
  let b0 = v128.load(sums, 128)
  let b1 = v128.load(sums, 144)
  let b2 = v128.load(sums, 160)
  let b3 = v128.load(sums, 176)
  for (let at = tile, pair = x; at < last; at += stride, pair += step) {
    const first = v128.load32_splat(pair)
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(fourRows<W, Rows12>(at, mask), first))
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(fourRows<W, Rows8>(at, mask), first))
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(fourRows<W, Rows4>(at, mask), first))
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(fourRows<W, Rows0>(at, mask), first))
    const next = at - 2 * w
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(fourRows<W, Rows12>(next, mask), first))
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(fourRows<W, Rows8>(next, mask), first))
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(fourRows<W, Rows4>(next, mask), first))
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(fourRows<W, Rows0>(next, mask), first))
  }
  v128.store(sums, a0)
  v128.store(sums, a1, 16)
  v128.store(sums, a2, 32)
  v128.store(sums, a3, 48)
  v128.store(sums, b0, 128)
  v128.store(sums, b1, 144)
  v128.store(sums, b2, 160)
  v128.store(sums, b3, 176)
}
