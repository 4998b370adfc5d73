import { exponential } from './exponential'
import { param } from './job'
import { COLUMNS, multiplyStrips, ROWS } from './product'

/**
 * Causal attention, a tile for each run of queries of a sequence and key-value head. Keys and values are packed in strips
 * of ROWS, queries and probabilities in strips of QUERIES, so that both products have the inner loop of all products,
 *
 *     scores (keys x queries) = K Q^T        output (dimensions x queries) = V^T P
 *
 * and the softmax over the keys runs down the lanes. What no query of a strip sees is left out.
 *
 * Scratch of a thread, `n` keys and `d` dimensions rounded up to whole ROWS:
 *
 *     queries d x 8 | output d x 8 | sums 8 | scores n x 8 | keys n x d | values d x n
 */
const QUERIES: i32 = COLUMNS

/** Bytes between two rows of a strip of queries, and of ROWS keys or dimensions. */
const QUERY_STEP: usize = 32
const ROW_STEP: usize = 16

// @ts-expect-error: decorator
@inline
function upToRows(count: i32): i32 {
  return (count + ROWS - 1) & ~(ROWS - 1)
}

/**
 * Parameters: addresses of queries, keys, values, output, cosines and sines; tokens of a sequence, heads, key-value
 * heads, dimensions of a head, window, queries of a tile, and the factor of the scores.
 */
export function attendTile(tile: i32, scratch: usize): void {
  const length = param<i32>(6)
  const heads = param<i32>(7)
  const kvHeads = param<i32>(8)
  const dims = param<i32>(9)
  const window = param<i32>(10)
  const perTile = param<i32>(11)
  const tilesPerHead = (length + perTile - 1) / perTile
  const sequence = tile / tilesPerHead / kvHeads
  const kvHead = (tile / tilesPerHead) % kvHeads
  const first = (tile % tilesPerHead) * perTile
  const last = min(first + perTile, length)
  const firstKey = max(0, first - window + 1)
  const keys = upToRows(last - firstKey)

  const queries = scratch
  const output = queries + <usize>upToRows(dims) * QUERY_STEP
  const sums = output + <usize>upToRows(dims) * QUERY_STEP
  const scores = sums + QUERY_STEP
  const packedKeys = scores + <usize>keys * QUERY_STEP
  const packedValues = packedKeys + <usize>(keys * dims) * 4

  const kvStride = <usize>(kvHeads * dims) << 2
  const kvOffset = <usize>(sequence * length + firstKey) * kvStride + (<usize>(kvHead * dims) << 2)
  packKeys(param<usize>(1) + kvOffset, kvStride, firstKey, last - firstKey, dims, packedKeys)
  packValues(param<usize>(2) + kvOffset, kvStride, last - firstKey, dims, packedValues)
  const group = heads / kvHeads
  const stride = <usize>(heads * dims) << 2
  for (let head = kvHead * group; head < (kvHead + 1) * group; head++) {
    for (let query = first; query < last; query += QUERIES) {
      const count = min(QUERIES, last - query)
      const offset = <usize>(sequence * length + query) * stride + (<usize>(head * dims) << 2)
      packQueries(param<usize>(0) + offset, stride, query, count, dims, queries)
      const skipped = max(0, query - window + 1 - firstKey) & ~(ROWS - 1)
      const seen = upToRows(query + count - firstKey) - skipped
      for (let key = 0; key < seen; key += ROWS) {
        const strip = packedKeys + <usize>((skipped + key) * dims) * 4
        multiplyStrips(strip, queries, dims, 1, 0, scores + <usize>key * QUERY_STEP, QUERY_STEP)
      }
      hideKeys(scores, firstKey + skipped, seen, query, window)
      weigh(scores, seen, sums)
      for (let dim = 0; dim < dims; dim += ROWS) {
        const strip = packedValues + <usize>(dim * keys + skipped * ROWS) * 4
        multiplyStrips(strip, scores, seen, 1, 0, output + <usize>dim * QUERY_STEP, QUERY_STEP)
      }
      putOutput(output, sums, count, dims, param<usize>(3) + offset, stride)
    }
  }
}

/** `count` keys turned by their positions: of each ROWS keys a strip, dims x ROWS. */
function packKeys(from: usize, stride: usize, position: i32, count: i32, dims: i32, to: usize): void {
  const strip = <usize>dims * ROW_STEP
  for (let key = 0; key < count; key += ROWS) {
    const there = min(ROWS, count - key)
    if (there < ROWS) memory.fill(to, 0, strip)
    for (let r = 0; r < there; r++) {
      packTurned(from, position + key + r, dims, 1, to + (<usize>r << 2), ROW_STEP)
      from += stride
    }
    to += strip
  }
}

/** `count` queries turned by their positions and scaled: dims x QUERIES. */
function packQueries(from: usize, stride: usize, position: i32, count: i32, dims: i32, to: usize): void {
  if (count < QUERIES) memory.fill(to, 0, <usize>dims * QUERY_STEP)
  for (let r = 0; r < count; r++) {
    packTurned(from, position + r, dims, param<f32>(12), to + (<usize>r << 2), QUERY_STEP)
    from += stride
  }
}

/** A head's vector at a position, turned by the rotary angles and scaled, its elements `step` bytes apart. */
// @ts-expect-error: decorator
@inline
function packTurned(vector: usize, position: i32, dims: i32, factor: f32, to: usize, step: usize): void {
  const half = <usize>(dims >> 1) << 2
  const far = <usize>(dims >> 1) * step
  // a row of the tables is dims long and repeats its first half
  let cos = param<usize>(4) + (<usize>(position * dims) << 2)
  let sin = param<usize>(5) + (<usize>(position * dims) << 2)
  const end = vector + half
  while (vector < end) {
    const low = load<f32>(vector)
    const high = load<f32>(vector + half)
    const c = load<f32>(cos)
    const s = load<f32>(sin)
    store<f32>(to, factor * (low * c - high * s))
    store<f32>(to + far, factor * (high * c + low * s))
    vector += 4
    cos += 4
    sin += 4
    to += step
  }
}

/** `count` values: of each ROWS dimensions a strip, keys x ROWS. */
function packValues(from: usize, stride: usize, count: i32, dims: i32, to: usize): void {
  for (let dim = 0; dim < dims; dim += ROWS) {
    const width = min(ROWS, dims - dim)
    let vector = from + (<usize>dim << 2)
    for (let key = 0; key < upToRows(count); key++) {
      if (key < count && width == ROWS) v128.store(to, v128.load(vector))
      else {
        for (let r = 0; r < ROWS; r++) {
          const value: f32 = key < count && r < width ? load<f32>(vector + (<usize>r << 2)) : 0
          store<f32>(to + (<usize>r << 2), value)
        }
      }
      vector += stride
      to += ROW_STEP
    }
  }
}

/** Minus infinity where a query does not see a key: behind it, or before its window. */
function hideKeys(scores: usize, firstKey: i32, keys: i32, query: i32, window: i32): void {
  for (let key = 0; key < keys; key++) {
    const back = query - (firstKey + key)
    if (back >= 0 && back + QUERIES <= window) continue
    for (let r = 0; r < QUERIES; r++) {
      if (back + r >= 0 && back + r < window) continue
      store<f32>(scores + <usize>key * QUERY_STEP + (<usize>r << 2), -Infinity)
    }
  }
}

/** Scores become `exp(score - the query's largest)`, and the sums of these are what they have still to be divided by. */
function weigh(scores: usize, keys: i32, sums: usize): void {
  const end = scores + <usize>keys * QUERY_STEP
  let largest0 = v128.load(scores)
  let largest1 = v128.load(scores, 16)
  for (let at = scores + QUERY_STEP; at < end; at += QUERY_STEP) {
    largest0 = f32x4.max(largest0, v128.load(at))
    largest1 = f32x4.max(largest1, v128.load(at, 16))
  }
  let sum0 = f32x4.splat(0)
  let sum1 = f32x4.splat(0)
  for (let at = scores; at < end; at += QUERY_STEP) {
    const weight0 = exponential(f32x4.sub(v128.load(at), largest0))
    const weight1 = exponential(f32x4.sub(v128.load(at, 16), largest1))
    v128.store(at, weight0)
    v128.store(at, weight1, 16)
    sum0 = f32x4.add(sum0, weight0)
    sum1 = f32x4.add(sum1, weight1)
  }
  v128.store(sums, sum0)
  v128.store(sums, sum1, 16)
}

/** Divides `count` queries' output (dims x QUERIES) by their sums and writes it where their heads' vectors lie. */
function putOutput(output: usize, sums: usize, count: i32, dims: i32, to: usize, stride: usize): void {
  for (let r = 0; r < count; r++) {
    const factor = <f32>1 / load<f32>(sums + (<usize>r << 2))
    let from = output + (<usize>r << 2)
    const end = to + (<usize>dims << 2)
    for (let at = to; at < end; at += 4) {
      store<f32>(at, factor * load<f32>(from))
      from += QUERY_STEP
    }
    to += stride
  }
}
