import { aligned } from '../job'
import { unpackCodes } from './packed-codes'
import { chosen, mixHigh, mixLow } from '../simd'
import {
  CODE_BITS,
  COLUMNS_PER_GROUP,
  elementsAt,
  FLOATS,
  field,
  GRID,
  goesDown,
  groupsOf,
  hasNibbles,
  KIND,
  loadNibbles,
  nibblesAt,
  nibblesStep,
  VECTOR_DIM,
} from './packed-weight'

/**
 * Decodes rows of a packed weight without a trellis to what their codes stand for: the stored elements (int8, or float32),
 * or the codes of a grid (less 128 where they have 8 bits). A scratch holds: codes | elements.
 */

/** Where elements are in a scratch for `vectors` vectors. */
export function elementsIn(scratch: usize, vectors: i32): usize {
  return scratch + aligned(<usize>(2 * vectors + 64))
}

/** The elements of `count` vectors from `vector` on, whose codes start on a byte. Up to 127 bytes more are written. */
export function decodeRow(weight: usize, row: i32, vector: i32, count: i32, scratch: usize): void {
  const elements = elementsIn(scratch, count)
  if (field(weight, KIND) == GRID) {
    unpackCodes(weight, row, vector, count, elements)
    if (field(weight, CODE_BITS) == 8) flipSigns(elements, count)
    return
  }
  if (hasNibbles(weight)) {
    decodeNibblePairs(weight, row, vector, count, elements)
    return
  }
  unpackCodes(weight, row, vector, count, scratch)
  const isWide = field(weight, CODE_BITS) > 8
  const d = field(weight, VECTOR_DIM)
  const perGroup = field(weight, COLUMNS_PER_GROUP) / d
  const bytes = <usize>(field(weight, KIND) == FLOATS ? 4 * d : d)
  const groups = groupsOf(weight, row)
  for (let first = vector, end = vector + count; first < end; ) {
    const group = first / perGroup
    const next = min(end, (group + 1) * perGroup)
    const from = scratch + (<usize>(first - vector) << usize(isWide))
    lookUp(weight, elementsAt(weight, groups + group), from, isWide, next - first, elements + <usize>(first - vector) * bytes)
    first = next
  }
}

function flipSigns(at: usize, count: i32): void {
  const end = at + <usize>count
  for (; at < end; at += 16) v128.store(at, v128.xor(v128.load(at), i8x16.splat(-128)))
}

function decodeNibblePairs(weight: usize, row: i32, vector: i32, count: i32, to: usize): void {
  const perGroup = field(weight, COLUMNS_PER_GROUP) >> 1
  const groups = groupsOf(weight, row)
  const step = nibblesStep(weight, row)
  const codes = nibblesAt(weight, row)
  let group = vector / perGroup
  for (let first = vector, end = vector + count; first < end; group++) {
    const next = min(end, (group + 1) * perGroup)
    const table = elementsAt(weight, groups + group)
    const own = codes + <usize>(first >> 5) * step
    swizzleNibblePairs(table, own, step, goesDown(weight), next - first, to + (<usize>(first - vector) << 1))
    first = next
  }
}

function swizzleNibblePairs(table: usize, codes: usize, step: usize, isDown: boolean, count: i32, to: usize): void {
  const firsts = v128.load(table)
  const seconds = v128.load(table, 16)
  const end = to + (<usize>count << 1)
  for (; to < end; to += 64, codes += step) {
    const pairs = loadNibbles(codes, isDown)
    const low = v128.and(pairs, i8x16.splat(15))
    const high = i8x16.shr_u(pairs, 4)
    let indices = mixLow(low, high)
    let first = chosen(firsts, indices)
    let second = chosen(seconds, indices)
    v128.store(to, mixLow(first, second))
    v128.store(to, mixHigh(first, second), 16)
    indices = mixHigh(low, high)
    first = chosen(firsts, indices)
    second = chosen(seconds, indices)
    v128.store(to, mixLow(first, second), 32)
    v128.store(to, mixHigh(first, second), 48)
  }
}

function lookUp(weight: usize, table: usize, numbers: usize, isWide: boolean, count: i32, to: usize): void {
  const d = field(weight, VECTOR_DIM)
  if (field(weight, KIND) == FLOATS) {
    for (let i = 0; i < count; i++) {
      const number = isWide ? <usize>load<u16>(numbers + (<usize>i << 1)) : <usize>load<u8>(numbers + <usize>i)
      for (let a: usize = 0; a < <usize>d; a++, to += 4) store<f32>(to, load<f32>(table + ((number * <usize>d + a) << 2)))
    }
  } else if (!isWide && field(weight, CODE_BITS) <= 4) {
    if (d == 1) swizzleOne(table, numbers, count, to)
    else if (d == 2) swizzlePairs(table, numbers, count, to)
    else swizzleFours(table, numbers, count, to)
  } else if (d == 1) loadEach<u8>(table, numbers, isWide, count, to)
  else if (d == 2) loadEach<u16>(table, numbers, isWide, count, to)
  else loadEach<u32>(table, numbers, isWide, count, to)
}

/** Vectors as wide as `T`, one after the other. */
function loadEach<T>(table: usize, numbers: usize, isWide: boolean, count: i32, to: usize): void {
  const end = to + <usize>count * sizeof<T>()
  if (isWide) {
    for (; to + 4 * sizeof<T>() <= end; to += 4 * sizeof<T>(), numbers += 8) {
      store<T>(to, load<T>(table + <usize>load<u16>(numbers) * sizeof<T>()))
      store<T>(to, load<T>(table + <usize>load<u16>(numbers, 2) * sizeof<T>()), sizeof<T>())
      store<T>(to, load<T>(table + <usize>load<u16>(numbers, 4) * sizeof<T>()), 2 * sizeof<T>())
      store<T>(to, load<T>(table + <usize>load<u16>(numbers, 6) * sizeof<T>()), 3 * sizeof<T>())
    }
    for (; to < end; to += sizeof<T>(), numbers += 2) {
      store<T>(to, load<T>(table + <usize>load<u16>(numbers) * sizeof<T>()))
    }
    return
  }
  for (; to + 4 * sizeof<T>() <= end; to += 4 * sizeof<T>(), numbers += 4) {
    store<T>(to, load<T>(table + <usize>load<u8>(numbers) * sizeof<T>()))
    store<T>(to, load<T>(table + <usize>load<u8>(numbers, 1) * sizeof<T>()), sizeof<T>())
    store<T>(to, load<T>(table + <usize>load<u8>(numbers, 2) * sizeof<T>()), 2 * sizeof<T>())
    store<T>(to, load<T>(table + <usize>load<u8>(numbers, 3) * sizeof<T>()), 3 * sizeof<T>())
  }
  for (; to < end; to += sizeof<T>(), numbers++) {
    store<T>(to, load<T>(table + <usize>load<u8>(numbers) * sizeof<T>()))
  }
}

function swizzleOne(table: usize, numbers: usize, count: i32, to: usize): void {
  const elements = v128.load(table)
  const end = numbers + <usize>count
  for (; numbers < end; numbers += 16, to += 16) v128.store(to, chosen(elements, v128.load(numbers)))
}

// @ts-expect-error: decorator
@inline
function evens(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
}

// @ts-expect-error: decorator
@inline
function odds(a: v128, b: v128): v128 {
  return v128.shuffle<u8>(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
}

function swizzlePairs(table: usize, numbers: usize, count: i32, to: usize): void {
  const a = v128.load(table)
  const b = v128.load(table, 16)
  const firsts = evens(a, b)
  const seconds = odds(a, b)
  const end = numbers + <usize>count
  for (; numbers < end; numbers += 16, to += 32) {
    const indices = v128.load(numbers)
    const first = chosen(firsts, indices)
    const second = chosen(seconds, indices)
    v128.store(to, mixLow(first, second))
    v128.store(to, mixHigh(first, second), 16)
  }
}

function swizzleFours(table: usize, numbers: usize, count: i32, to: usize): void {
  const a = evens(v128.load(table), v128.load(table, 16))
  const b = evens(v128.load(table, 32), v128.load(table, 48))
  const c = odds(v128.load(table), v128.load(table, 16))
  const e = odds(v128.load(table, 32), v128.load(table, 48))
  const firsts = evens(a, b)
  const thirds = odds(a, b)
  const seconds = evens(c, e)
  const fourths = odds(c, e)
  const end = numbers + <usize>count
  for (; numbers < end; numbers += 16, to += 64) {
    const indices = v128.load(numbers)
    const first = chosen(firsts, indices)
    const second = chosen(seconds, indices)
    const third = chosen(thirds, indices)
    const fourth = chosen(fourths, indices)
    storeFours(mixLow(first, second), mixLow(third, fourth), to)
    storeFours(mixHigh(first, second), mixHigh(third, fourth), to + 32)
  }
}

// @ts-expect-error: decorator
@inline
function storeFours(a: v128, b: v128, to: usize): void {
  v128.store(to, v128.shuffle<u16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11))
  v128.store(to, v128.shuffle<u16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15), 16)
}
