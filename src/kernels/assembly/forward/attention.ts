import { softCapped } from './activation'
import { exponentialUpTo88 } from './exponential'
import { KEYS, ROWS_AT_ONCE, rowStep, rowsOf, VALUES } from './held-rows'
import { param } from '../job'
import { COLUMNS, multiplyStrips, packAcross, ROWS, transpose } from '../product'

/**
 * Causal attention, a tile for each run of queries of a sequence and key-value head. Keys and values are packed in strips
 * of ROWS, queries and probabilities in strips of QUERIES, so that both products have the inner loop of all products,
 *
 *     scores (keys x queries) = K Q^T        output (dimensions x queries) = V^T P
 *
 * and the softmax over the keys runs down the lanes. What no query of a strip sees is left out. Few queries are better off
 * in `attention-direct.ts`.
 *
 * Scratch of a thread, `n` keys and `d` dimensions rounded up to whole ROWS:
 *
 *     queries d x 8 | output d x 8 | sums 8 | scores n x 8 | keys n x d | values d x n | tile ROWS_AT_ONCE x d
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
 * Parameters: addresses of queries, keys, values and output; queries of a sequence, position of its first one, positions
 * that there is room for, heads, key-value heads, dimensions of a head, window, queries of a tile; the factor of the
 * scores and their cap (0: none); addresses of the scales of keys and values (0: they are float32).
 */
export function attendTile(tile: i32, scratch: usize): void {
  const length = param<i32>(4)
  const position = param<i32>(5)
  const kvHeads = param<i32>(8)
  const dims = param<i32>(9)
  const window = param<i32>(10)
  const perTile = param<i32>(11)
  const tilesPerHead = (length + perTile - 1) / perTile
  const sequence = tile / tilesPerHead / kvHeads
  const kvHead = (tile / tilesPerHead) % kvHeads
  const first = (tile % tilesPerHead) * perTile
  const last = min(first + perTile, length)
  const firstKey = max(0, position + first - window + 1)
  const there = position + last - firstKey
  const keys = upToRows(there)

  const queries = scratch
  const output = queries + <usize>upToRows(dims) * QUERY_STEP
  const sums = output + <usize>upToRows(dims) * QUERY_STEP
  const scores = sums + QUERY_STEP
  const packedKeys = scores + <usize>keys * QUERY_STEP
  const packedValues = packedKeys + <usize>(keys * upToRows(dims)) * 4
  const expanded = packedValues + <usize>(keys * upToRows(dims)) * 4

  for (let run = 0; run < there; run += ROWS_AT_ONCE) {
    const count = min(ROWS_AT_ONCE, there - run)
    const row = sequence * param<i32>(6) + firstKey + run
    const keysFrom = rowsOf(KEYS, row, kvHead, count, expanded)
    packKeys(keysFrom, rowStep(KEYS), count, dims, packedKeys + <usize>(run * dims) * 4)
    const valuesFrom = rowsOf(VALUES, row, kvHead, count, expanded)
    packValues(valuesFrom, rowStep(VALUES), count, dims, packedValues + <usize>run * ROW_STEP, <usize>keys * ROW_STEP)
  }
  const heads = param<i32>(7)
  const group = heads / kvHeads
  const stride = <usize>(heads * dims) << 2
  const scale = param<f32>(12)
  const cap = param<f32>(13)
  for (let head = kvHead * group; head < (kvHead + 1) * group; head++) {
    for (let query = first; query < last; query += QUERIES) {
      const count = min(QUERIES, last - query)
      const offset = <usize>(sequence * length + query) * stride + (<usize>(head * dims) << 2)
      packAcross(param<usize>(0) + offset, stride, dims, count, QUERIES, queries)
      // the first query's place among the keys of the tile
      const own = position + query - firstKey
      const skipped = max(0, own - window + 1) & ~(ROWS - 1)
      const seen = own + count - skipped
      for (let key = 0; key < seen; key += ROWS) {
        const strip = packedKeys + <usize>((skipped + key) * dims) * 4
        multiplyStrips(strip, queries, dims, scale, 0, scores + <usize>key * QUERY_STEP, QUERY_STEP)
      }
      if (cap != 0) capScores(scores, scores + <usize>seen * QUERY_STEP, cap)
      hideKeys(scores, seen, own - skipped, window)
      weigh(scores, seen, sums)
      for (let dim = 0; dim < dims; dim += ROWS) {
        const strip = packedValues + <usize>(dim * keys + skipped * ROWS) * 4
        multiplyStrips(strip, scores, seen, 1, 0, output + <usize>dim * QUERY_STEP, QUERY_STEP)
      }
      putOutput(output, sums, count, dims, param<usize>(3) + offset, stride)
    }
  }
}

/** `count` keys: of each ROWS of them a strip, dims x ROWS. */
function packKeys(from: usize, stride: usize, count: i32, dims: i32, to: usize): void {
  for (let key = 0; key < count; key += ROWS) {
    packAcross(from, stride, dims, min(ROWS, count - key), ROWS, to)
    from += <usize>ROWS * stride
    to += <usize>dims * ROW_STEP
  }
}

/** `count` values: of each ROWS dimensions a part of their strip, keys x ROWS; `stripBytes` are those of a whole one. */
function packValues(from: usize, stride: usize, count: i32, dims: i32, to: usize, stripBytes: usize): void {
  for (let dim = 0; dim < dims; dim += ROWS) {
    const width = min(ROWS, dims - dim)
    let vector = from + (<usize>dim << 2)
    let strip = to
    for (let key = 0; key < upToRows(count); key++) {
      if (key < count && width == ROWS) v128.store(strip, v128.load(vector))
      else {
        for (let r = 0; r < ROWS; r++) {
          const value: f32 = key < count && r < width ? load<f32>(vector + (<usize>r << 2)) : 0
          store<f32>(strip + (<usize>r << 2), value)
        }
      }
      vector += stride
      strip += ROW_STEP
    }
    to += stripBytes
  }
}

/** Of whole vectors. */
export function capScores(scores: usize, end: usize, cap: f32): void {
  const caps = f32x4.splat(cap)
  const twice = f32x4.splat(2 / cap)
  for (let at = scores; at < end; at += 16) v128.store(at, softCapped(v128.load(at), caps, twice))
}

/**
 * Minus infinity where a query does not see a key: behind it, or before its window.
 *
 * @param own the place of the first query among the keys
 */
function hideKeys(scores: usize, keys: i32, own: i32, window: i32): void {
  for (let key = 0; key < keys; key++) {
    const back = own - key
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
    const weight0 = exponentialUpTo88(f32x4.sub(v128.load(at), largest0))
    const weight1 = exponentialUpTo88(f32x4.sub(v128.load(at, 16), largest1))
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
  const factors0 = f32x4.div(f32x4.splat(1), v128.load(sums))
  const factors1 = f32x4.div(f32x4.splat(1), v128.load(sums, 16))
  const end = output + <usize>dims * QUERY_STEP
  for (let at = output; at < end; at += QUERY_STEP) {
    v128.store(at, f32x4.mul(factors0, v128.load(at)))
    v128.store(at, f32x4.mul(factors1, v128.load(at, 16)), 16)
  }
  transpose(output, QUERY_STEP, count, dims, to, stride)
}
