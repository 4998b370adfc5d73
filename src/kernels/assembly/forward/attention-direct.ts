import { softCapped } from './activation'
import { KEYS, ROWS_AT_ONCE, rowStep, rowsOf, VALUES } from './held-rows'
import { param } from '../job'
import { loadUpTo, multiplyAdd, storeUpTo } from '../simd'
import { weighVectors } from './softmax'

/**
 * Causal attention of few queries, a tile for each query of a sequence and key-value head. Nothing is packed: keys and
 * values are read where they lie, or from the tile that their codes are expanded into, once for two of the heads that share
 * them. The softmax runs along the lanes.
 *
 * Scratch of a thread, for a group of `g` heads, `n` keys and `d` dimensions rounded up to whole vectors of 4:
 *
 *     queries g x d | scores g x n | sums g x 4 | tile ROWS_AT_ONCE x d
 */
const LANES: i32 = 4

// @ts-expect-error: decorator
@inline
function upToVectors(count: i32): i32 {
  return (count + LANES - 1) & ~(LANES - 1)
}

/** Parameters as those of `attendTile`, but for the queries of a tile. */
export function attendDirectTile(tile: i32, scratch: usize): void {
  const length = param<i32>(4)
  const heads = param<i32>(7)
  const kvHeads = param<i32>(8)
  const dims = param<i32>(9)
  const query = tile % length
  const kvHead = (tile / length) % kvHeads
  const sequence = tile / length / kvHeads
  const group = heads / kvHeads
  const position = param<i32>(5) + query
  const firstKey = max(0, position - param<i32>(10) + 1)
  const keys = position + 1 - firstKey

  const headBytes = <usize>dims << 2
  const offset = <usize>((sequence * length + query) * heads + kvHead * group) * headBytes
  const firstRow = sequence * param<i32>(6) + firstKey
  const queryBytes = <usize>upToVectors(dims) << 2
  const scoreBytes = <usize>upToVectors(keys) << 2
  const queries = scratch
  const scores = queries + <usize>group * queryBytes
  const sums = scores + <usize>group * scoreBytes
  const expanded = sums + (<usize>group << 4)

  for (let head = 0; head < group; head++) {
    copyPadded(param<usize>(0) + offset + <usize>head * headBytes, headBytes, queries + <usize>head * queryBytes)
  }
  for (let first = 0; first < keys; first += ROWS_AT_ONCE) {
    const count = min(ROWS_AT_ONCE, keys - first)
    const from = rowsOf(KEYS, firstRow + first, kvHead, count, expanded)
    scoreKeys(queries, queryBytes, from, rowStep(KEYS), group, count, scores + (<usize>first << 2), scoreBytes)
  }
  for (let head = 0; head < group; head++) {
    weigh(scores + <usize>head * scoreBytes, keys, sums + (<usize>head << 4))
  }
  for (let first = 0; first < keys; first += ROWS_AT_ONCE) {
    const count = min(ROWS_AT_ONCE, keys - first)
    const from = rowsOf(VALUES, firstRow + first, kvHead, count, expanded)
    const shares = scores + (<usize>first << 2)
    mixValues(shares, scoreBytes, from, rowStep(VALUES), group, count, first > 0, param<usize>(3) + offset)
  }
  for (let head = 0; head < group; head++) {
    divide(param<usize>(3) + offset + <usize>head * headBytes, headBytes, sums + (<usize>head << 4))
  }
}

/** A head's vector, with zeros up to whole vectors. */
function copyPadded(from: usize, bytes: usize, to: usize): void {
  for (let at: usize = 0; at < bytes; at += 16) v128.store(to + at, loadUpTo(from + at, from + bytes))
}

/** Scores of LANES keys and two heads at a time. */
function scoreKeys(
  queries: usize,
  queryBytes: usize,
  keys: usize,
  stride: usize,
  group: i32,
  count: i32,
  scores: usize,
  scoreBytes: usize,
): void {
  const last = keys + <usize>(count - 1) * stride
  for (let key = 0; key < count; key += LANES) {
    // what lacks to LANES keys is the last one again
    const k0 = keys + <usize>key * stride
    const k1 = min(k0 + stride, last)
    const k2 = min(k0 + 2 * stride, last)
    const k3 = min(k0 + 3 * stride, last)
    const to = scores + (<usize>key << 2)
    for (let head = 0; head < group; head += 2) {
      // the last head of an odd number is paired with itself
      const next = min(head + 1, group - 1)
      scorePair(
        queries + <usize>head * queryBytes,
        queries + <usize>next * queryBytes,
        k0,
        k1,
        k2,
        k3,
        to + <usize>head * scoreBytes,
        to + <usize>next * scoreBytes,
      )
    }
  }
}

// @ts-expect-error: decorator
@inline
function scorePair(q: usize, r: usize, k0: usize, k1: usize, k2: usize, k3: usize, to: usize, next: usize): void {
  const bytes = <usize>param<i32>(9) << 2
  const whole = bytes & ~15
  let q0 = f32x4.splat(0)
  let q1 = f32x4.splat(0)
  let q2 = f32x4.splat(0)
  let q3 = f32x4.splat(0)
  let r0 = f32x4.splat(0)
  let r1 = f32x4.splat(0)
  let r2 = f32x4.splat(0)
  let r3 = f32x4.splat(0)
  let at: usize = 0
  for (; at < whole; at += 16) {
    const x = v128.load(q + at)
    const y = v128.load(r + at)
    let key = v128.load(k0 + at)
    q0 = multiplyAdd(x, key, q0)
    r0 = multiplyAdd(y, key, r0)
    key = v128.load(k1 + at)
    q1 = multiplyAdd(x, key, q1)
    r1 = multiplyAdd(y, key, r1)
    key = v128.load(k2 + at)
    q2 = multiplyAdd(x, key, q2)
    r2 = multiplyAdd(y, key, r2)
    key = v128.load(k3 + at)
    q3 = multiplyAdd(x, key, q3)
    r3 = multiplyAdd(y, key, r3)
  }
  if (at < bytes) {
    const x = v128.load(q + at)
    const y = v128.load(r + at)
    let key = loadUpTo(k0 + at, k0 + bytes)
    q0 = multiplyAdd(x, key, q0)
    r0 = multiplyAdd(y, key, r0)
    key = loadUpTo(k1 + at, k1 + bytes)
    q1 = multiplyAdd(x, key, q1)
    r1 = multiplyAdd(y, key, r1)
    key = loadUpTo(k2 + at, k2 + bytes)
    q2 = multiplyAdd(x, key, q2)
    r2 = multiplyAdd(y, key, r2)
    key = loadUpTo(k3 + at, k3 + bytes)
    q3 = multiplyAdd(x, key, q3)
    r3 = multiplyAdd(y, key, r3)
  }
  putScores(q0, q1, q2, q3, to)
  putScores(r0, r1, r2, r3, next)
}

/** Four sums over lanes, side by side, scaled and capped. */
function putScores(a: v128, b: v128, c: v128, d: v128, to: usize): void {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7))
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7))
  const sums = f32x4.add(v128.shuffle<f64>(ab, cd, 0, 2), v128.shuffle<f64>(ab, cd, 1, 3))
  const scores = f32x4.mul(f32x4.splat(param<f32>(12)), sums)
  const cap = param<f32>(13)
  v128.store(to, cap == 0 ? scores : softCapped(scores, f32x4.splat(cap), f32x4.splat(2 / cap)))
}

/** Scores become `exp(score - the largest)`; the sum of these is left in all lanes of `sum`. */
function weigh(scores: usize, keys: i32, sum: usize): void {
  const end = scores + (<usize>keys << 2)
  // scratch starts at whole vectors
  for (let at = end; at & 15; at += 4) store<f32>(at, -Infinity)
  v128.store(sum, weighVectors(scores, (end + 15) & ~15))
}

/** `sum(weight value)` of each head of the group for a run of keys, two heads and 16 or 4 dimensions at a time. */
function mixValues(
  weights: usize,
  weightBytes: usize,
  values: usize,
  stride: usize,
  group: i32,
  count: i32,
  isAdding: boolean,
  to: usize,
): void {
  const bytes = <usize>param<i32>(9) << 2
  for (let head = 0; head < group; head += 2) {
    const next = min(head + 1, group - 1)
    const w = weights + <usize>head * weightBytes
    const u = weights + <usize>next * weightBytes
    const y = to + <usize>head * bytes
    const z = to + <usize>next * bytes
    let at: usize = 0
    for (; at + 64 <= bytes; at += 64) mixLine(w, u, values + at, stride, count, isAdding, y + at, z + at)
    for (; at < bytes; at += 16) {
      mixVector(w, u, values + at, values + bytes, stride, count, isAdding, y + at, y + bytes, z + at, z + bytes)
    }
  }
}

/** 16 dimensions of two heads. */
function mixLine(
  w: usize,
  u: usize,
  value: usize,
  stride: usize,
  count: i32,
  isAdding: boolean,
  y: usize,
  z: usize,
): void {
  let y0 = f32x4.splat(0)
  let y1 = f32x4.splat(0)
  let y2 = f32x4.splat(0)
  let y3 = f32x4.splat(0)
  let z0 = f32x4.splat(0)
  let z1 = f32x4.splat(0)
  let z2 = f32x4.splat(0)
  let z3 = f32x4.splat(0)
  if (isAdding) {
    y0 = v128.load(y)
    y1 = v128.load(y, 16)
    y2 = v128.load(y, 32)
    y3 = v128.load(y, 48)
    z0 = v128.load(z)
    z1 = v128.load(z, 16)
    z2 = v128.load(z, 32)
    z3 = v128.load(z, 48)
  }
  const end = w + (<usize>count << 2)
  while (w < end) {
    const x = v128.load_splat<f32>(w)
    const t = v128.load_splat<f32>(u)
    let part = v128.load(value)
    y0 = multiplyAdd(x, part, y0)
    z0 = multiplyAdd(t, part, z0)
    part = v128.load(value, 16)
    y1 = multiplyAdd(x, part, y1)
    z1 = multiplyAdd(t, part, z1)
    part = v128.load(value, 32)
    y2 = multiplyAdd(x, part, y2)
    z2 = multiplyAdd(t, part, z2)
    part = v128.load(value, 48)
    y3 = multiplyAdd(x, part, y3)
    z3 = multiplyAdd(t, part, z3)
    value += stride
    w += 4
    u += 4
  }
  v128.store(y, y0)
  v128.store(y, y1, 16)
  v128.store(y, y2, 32)
  v128.store(y, y3, 48)
  v128.store(z, z0)
  v128.store(z, z1, 16)
  v128.store(z, z2, 32)
  v128.store(z, z3, 48)
}

/** Up to 4 dimensions of two heads. */
function mixVector(
  w: usize,
  u: usize,
  value: usize,
  valueEnd: usize,
  stride: usize,
  count: i32,
  isAdding: boolean,
  y: usize,
  yEnd: usize,
  z: usize,
  zEnd: usize,
): void {
  let sum = isAdding ? loadUpTo(y, yEnd) : f32x4.splat(0)
  let other = isAdding ? loadUpTo(z, zEnd) : f32x4.splat(0)
  const end = w + (<usize>count << 2)
  while (w < end) {
    const part = loadUpTo(value, valueEnd)
    sum = multiplyAdd(v128.load_splat<f32>(w), part, sum)
    other = multiplyAdd(v128.load_splat<f32>(u), part, other)
    value += stride
    valueEnd += stride
    w += 4
    u += 4
  }
  storeUpTo(y, yEnd, sum)
  storeUpTo(z, zEnd, other)
}

function divide(y: usize, bytes: usize, sum: usize): void {
  const factor = f32x4.div(f32x4.splat(1), v128.load(sum))
  for (let at: usize = 0; at < bytes; at += 16) {
    storeUpTo(y + at, y + bytes, f32x4.mul(factor, loadUpTo(y + at, y + bytes)))
  }
}
