import { formsOf, soughtAt } from './clustering-search'
import { Field, field } from './clustering-session'
import { measureOne, weighted } from './distances'
import { param } from '../job'
import { drawSeedTile } from './seeds'
import { multiplyAdd } from '../simd'
import { split } from './tree'
import { groupBytes, LOOSENING } from './tree-bounds'

/**
 * Seeds by distance when there are many: a new one is the nearest of few vectors, and only these are measured. It leaves
 * the bits that `measureSeedTile` would leave.
 *
 * With `z = L^T x`, L the factor of the mean metric, a vector's distance to a seed is at least `|z - z_seed|^2` over what
 * the metric can stretch. So a seed changes nothing where `|z - z_seed|^2` is more than the `reach` of a vector, its
 * distance so far times that stretch. Vectors are sorted into chunks of 64 that lie close together; a chunk has a box and
 * the largest reach of its vectors.
 *
 * All that a group has of SOUGHT serves as its memory: n numbers of vectors, sorted; n x d keys to sort by; per chunk, 64
 * reaches and d x 64 coordinates z. In CHUNKS, per 4 chunks: largest reaches less than 0, then boxes.
 */
const CHUNK: i32 = 64

/** Over the square of a vector's largest coordinate and the trace of the mean metric: the rounding of `|z - z_seed|^2`. */
const ROUNDING: f32 = 3.725290298461914e-9 // 2^-28

/** Columns that the running draw has listed as stale. */
let listed: i32 = 0

// @ts-expect-error: decorator
@inline
function capacityOf(group: i32): i32 {
  const starts = field(Field.SOUGHT_STARTS) + (<usize>group << 2)
  return load<i32>(starts, 4) - load<i32>(starts)
}

// @ts-expect-error: decorator
@inline
function numbersOf(group: i32, d: i32): usize {
  return field(Field.SOUGHT) + (<usize>(soughtAt(group, 0) * (2 * d + 2)) << 2)
}

// @ts-expect-error: decorator
@inline
function chunkBytes(d: i32): usize {
  return <usize>((d + 1) * CHUNK) << 2
}

// @ts-expect-error: decorator
@inline
function chunksOf(group: i32, d: i32): usize {
  return numbersOf(group, d) + (<usize>(capacityOf(group) * (d + 1)) << 2)
}

// @ts-expect-error: decorator
@inline
function boxesOfChunks(group: i32, d: i32): usize {
  return field(Field.CHUNKS) + <usize>(soughtAt(group, 0) / (4 * CHUNK)) * groupBytes(d)
}

/** `L^T (x - centre)` of a point whose coordinates lie `step` bytes apart, written `to` to `to + d * toStep`. */
// @ts-expect-error: decorator
@inline
function transformPoint(x: usize, step: usize, centre: usize, d: i32, to: usize, toStep: usize): f32 {
  const factor = field(Field.TREE_FACTOR)
  let largest: f32 = 0
  for (let b = 0; b < d; b++) {
    let sum: f32 = 0
    for (let a = b; a < d; a++) {
      const offset = load<f32>(x + <usize>a * step) - load<f32>(centre + (<usize>a << 2))
      sum += load<f32>(factor + (<usize>(a * d + b) << 2)) * offset
      largest = max(largest, abs(offset))
    }
    store<f32>(to + <usize>b * toStep, sum)
  }
  return largest * largest
}

/** What rounding may do to `|z - z_seed|^2`, for one of the two. */
// @ts-expect-error: decorator
@inline
function slackOf(square: f32, d: i32): f32 {
  const factor = field(Field.TREE_FACTOR)
  let trace: f32 = 0
  for (let i = 0; i < d * d; i++) trace += load<f32>(factor + (<usize>i << 2)) * load<f32>(factor + (<usize>i << 2))
  return ROUNDING * trace * square
}

/**
 * Sorts the vectors of a group into chunks, by the distances that they have to the seeds before `seed` (parameter 1), and
 * has FOUND say which of these may be the nearest.
 */
export function sortVectorsTile(group: i32, scratch: usize): void {
  if (!load<u8>(field(Field.ACTIVE) + <usize>group)) return
  const d = <i32>field(Field.DIMENSIONS)
  const start = load<i32>(field(Field.GROUPS) + <usize>group * 24, 16)
  const n = load<i32>(field(Field.GROUPS) + <usize>group * 24, 20)
  const centre = field(Field.CENTRES) + (<usize>(group * d) << 2)
  const numbers = numbersOf(group, d)
  const keys = numbers + (<usize>capacityOf(group) << 2)
  const plane = <usize>n << 2
  for (let i = 0; i < n; i++) {
    store<i32>(numbers + (<usize>i << 2), i)
    const x = field(Field.VECTORS) + (<usize>(start + i) << 2)
    transformPoint(x, field(Field.PLANE), centre, d, keys + (<usize>i << 2), plane)
  }
  guessSeeds(group, d, n, keys, scratch)
  split(numbers, 0, n, CHUNK, keys, plane, d)
  let chunk = chunksOf(group, d)
  for (let slot = 0; slot < n; slot++) {
    const lane = chunk + (<usize>(slot % CHUNK) << 2)
    const key = keys + (<usize>load<i32>(numbers + (<usize>slot << 2)) << 2)
    for (let a: usize = 0; a < <usize>d; a++) {
      store<f32>(lane + ((a + 1) << 8), load<f32>(key + a * plane))
    }
    store<f32>(lane, reachOf(start + load<i32>(numbers + (<usize>slot << 2)), start, centre, d))
    if (slot % CHUNK == CHUNK - 1) chunk += chunkBytes(d)
  }
  // what fills up the last chunk is never in reach
  for (let slot = n; slot % CHUNK != 0; slot++) {
    const lane = chunk + (<usize>(slot % CHUNK) << 2)
    for (let a: usize = 0; a < <usize>d; a++) {
      const first = load<f32>(chunk + ((a + 1) << 8))
      store<f32>(lane + ((a + 1) << 8), first)
    }
    store<f32>(lane, -Infinity)
  }
  boxChunks(group, d, n)
  sumColumns(group)
}

/** For each vector, the seed so far whose z is nearest: where a search may begin. */
function guessSeeds(group: i32, d: i32, n: i32, keys: usize, scratch: usize): void {
  const k = <i32>field(Field.CENTROIDS)
  const count = param<i32>(1)
  const centre = field(Field.CENTRES) + (<usize>(group * d) << 2)
  const plane = <usize>n << 2
  const seeds = scratch + 16
  for (let j = 0; j < count; j++) {
    const centroid = field(Field.CODEBOOKS) + (<usize>((group * k + j) * d) << 2)
    transformPoint(centroid, 4, centre, d, seeds + (<usize>(j * d) << 2), 4)
  }
  for (let i = 0; i < n; i += 4) {
    const key = keys + (<usize>i << 2)
    let least = f32x4.splat(Infinity)
    let guess = i32x4.splat(0)
    let seed = seeds
    for (let j = 0; j < count; j++) {
      let sum = f32x4.splat(0)
      for (let a: usize = 0; a < <usize>d; a++) {
        const gap = f32x4.sub(v128.load(key + a * plane), v128.load_splat<f32>(seed))
        sum = f32x4.add(sum, f32x4.mul(gap, gap))
        seed += 4
      }
      guess = v128.bitselect(i32x4.splat(j), guess, f32x4.lt(sum, least))
      least = f32x4.pmin(least, sum)
    }
    v128.store(scratch, guess)
    for (let lane = 0; lane < min(4, n - i); lane++) {
      store<u16>(foundAt(group, i + lane), <u16>load<i32>(scratch + (<usize>lane << 2)))
    }
  }
}

/** Where in FOUND vector `i` of a group is. */
// @ts-expect-error: decorator
@inline
function foundAt(group: i32, i: i32): usize {
  const period = <i32>field(Field.PERIOD)
  return field(Field.FOUND) + (<usize>(soughtAt(group, i % period) + i / period) << 1)
}

/** Up to which `|z - z_seed|^2` a seed may be nearer to vector `i` than those before. */
// @ts-expect-error: decorator
@inline
function reachOf(i: i32, start: i32, centre: usize, d: i32): f32 {
  const x = field(Field.VECTORS) + (<usize>i << 2)
  let largest: f32 = 0
  for (let a: usize = 0; a < <usize>d; a++) {
    largest = max(largest, abs(load<f32>(x + a * field(Field.PLANE)) - load<f32>(centre + (a << 2))))
  }
  let distance = load<f32>(field(Field.DISTANCES) + (<usize>i << 2))
  const weights = field(Field.VECTOR_WEIGHTS)
  if (weights) distance /= load<f32>(weights + (<usize>i << 2))
  const column = (i - start) % <i32>field(Field.PERIOD)
  const stretch = load<f32>(field(Field.STRETCHES) + (<usize>column << 2))
  // where the metric stretches without limit everything is in reach
  if (!(stretch < Infinity)) return Infinity
  return LOOSENING * stretch * distance + slackOf(largest * largest, d)
}

function boxChunks(group: i32, d: i32, n: i32): void {
  const boxes = boxesOfChunks(group, d)
  const count = (n + CHUNK - 1) / CHUNK
  let chunk = chunksOf(group, d)
  for (let c = 0; c < count; c++) {
    const box = boxes + <usize>(c >> 2) * groupBytes(d) + (<usize>(c & 3) << 2)
    for (let a: usize = 0; a < <usize>d; a++) {
      let least: f32 = Infinity
      let most: f32 = -Infinity
      for (let i: usize = 0; i < <usize>CHUNK; i++) {
        const value = load<f32>(chunk + ((a + 1) << 8) + (i << 2))
        least = min(least, value)
        most = max(most, value)
      }
      store<f32>(box + (a << 5), least, 16)
      store<f32>(box + (a << 5), most, 32)
    }
    store<f32>(box, -largestReach(chunk))
    chunk += chunkBytes(d)
  }
  for (let c = count; (c & 3) != 0; c++) {
    store<f32>(boxes + <usize>(c >> 2) * groupBytes(d) + (<usize>(c & 3) << 2), Infinity)
  }
}

function largestReach(chunk: usize): f32 {
  let largest = f32x4.splat(-Infinity)
  for (let at: usize = 0; at < <usize>CHUNK << 2; at += 16) largest = f32x4.pmax(largest, v128.load(chunk + at))
  largest = f32x4.pmax(largest, v128.shuffle<f32>(largest, largest, 2, 3, 0, 1))
  return max(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1))
}

/** All sums of a group. */
function sumColumns(group: i32): void {
  const tiles = load<i32>(field(Field.GROUPS) + <usize>group * 24, 12)
  const first = load<i32>(field(Field.GROUPS) + <usize>group * 24, 8)
  const columns = <i32>field(Field.TILE_COLUMNS)
  for (let tile = first; tile < first + tiles; tile++) {
    for (let column = 0; column < columns; column++) sumColumn(tile, column)
    store<f64>(field(Field.LOSSES) + (<usize>tile << 3), totalOf(tile))
  }
}

/** The distances of one column of a tile in the order in which `measureSeedTile` adds them. */
function sumColumn(tile: i32, column: i32): void {
  const entry = field(Field.TILES) + (<usize>tile << 4)
  const period = <usize>field(Field.PERIOD) << 2
  const end = field(Field.DISTANCES) + (<usize>load<i32>(entry, 8) << 2)
  let sum: f64 = 0
  for (let at = field(Field.DISTANCES) + (<usize>(load<i32>(entry, 4) + column) << 2); at < end; at += period) {
    sum += <f64>load<f32>(at)
  }
  store<f64>(field(Field.COLUMN_SUMS) + (<usize>(tile * <i32>field(Field.TILE_COLUMNS) + column) << 3), sum)
}

function totalOf(tile: i32): f64 {
  const entry = field(Field.TILES) + (<usize>tile << 4)
  const period = <i32>field(Field.PERIOD)
  const first = load<i32>(entry, 4)
  const columns = min(<i32>field(Field.TILE_COLUMNS), load<i32>(entry, 8) - first)
  const sums = field(Field.COLUMN_SUMS) + (<usize>(tile * <i32>field(Field.TILE_COLUMNS)) << 3)
  let total: f64 = 0
  for (let at = 0; at < columns; at += 8) {
    const column = (first + at - load<i32>(entry, 12)) % period
    total += weighted(sums + (<usize>at << 3), field(Field.WEIGHTS) + (<usize>column << 3))
  }
  return total
}

/** Lowers the distances of a group to those from centroid `seed` (parameter 1), and draws the next. */
export function drawNearTile(group: i32, scratch: usize): void {
  if (!load<u8>(field(Field.ACTIVE) + <usize>group)) return
  const d = <i32>field(Field.DIMENSIONS)
  if (d == 2) lower2(group, scratch)
  else lower4(group, scratch)
  drawSeedTile(group)
}

function lower2(group: i32, scratch: usize): void {
  lower(group, 2, scratch)
}

function lower4(group: i32, scratch: usize): void {
  lower(group, 4, scratch)
}

// @ts-expect-error: decorator
@inline
function lower(group: i32, d: i32, scratch: usize): void {
  const k = <i32>field(Field.CENTROIDS)
  const n = load<i32>(field(Field.GROUPS) + <usize>group * 24, 20)
  const centroid = field(Field.CODEBOOKS) + (<usize>((group * k + param<i32>(1)) * d) << 2)
  const centre = field(Field.CENTRES) + (<usize>(group * d) << 2)
  const slack = f32x4.splat(slackOf(transformPoint(centroid, 4, centre, d, scratch, 4), d))
  let box = boxesOfChunks(group, d)
  let chunk = chunksOf(group, d)
  listed = 0
  for (let first = 0; first < n; first += 4 * CHUNK) {
    let sum = v128.load(box)
    for (let a: usize = 0; a < <usize>d; a++) {
      const z = v128.load_splat<f32>(scratch + (a << 2))
      const below = f32x4.sub(v128.load(box + (a << 5), 16), z)
      const above = f32x4.sub(z, v128.load(box + (a << 5), 32))
      const gap = f32x4.pmax(f32x4.splat(0), f32x4.pmax(below, above))
      sum = multiplyAdd(gap, gap, sum)
    }
    let near = i32x4.bitmask(f32x4.gt(sum, slack)) ^ 15
    while (near) {
      const c = ctz(near)
      near &= near - 1
      const own = chunk + <usize>c * chunkBytes(d)
      if (!lowerChunk(group, first + c * CHUNK, own, centroid, slack, d, scratch)) continue
      store<f32>(box + (<usize>c << 2), -largestReach(own))
    }
    box += groupBytes(d)
    chunk += 4 * chunkBytes(d)
  }
  sumStale(group)
}

/** Measures the vectors of a chunk that are in reach; true if a distance fell. */
// @ts-expect-error: decorator
@inline
function lowerChunk(
  group: i32,
  first: i32,
  chunk: usize,
  centroid: usize,
  slack: v128,
  d: i32,
  scratch: usize,
): bool {
  let fell = false
  const numbers = numbersOf(group, d) + (<usize>first << 2)
  const start = load<i32>(field(Field.GROUPS) + <usize>group * 24, 16)
  for (let at: usize = 0; at < <usize>CHUNK << 2; at += 16) {
    let sum = f32x4.neg(v128.load(chunk + at))
    for (let a: usize = 0; a < <usize>d; a++) {
      const gap = f32x4.sub(v128.load(chunk + ((a + 1) << 8) + at), v128.load_splat<f32>(scratch + (a << 2)))
      sum = multiplyAdd(gap, gap, sum)
    }
    let near = i32x4.bitmask(f32x4.gt(sum, slack)) ^ 15
    while (near) {
      const slot = at + (<usize>ctz(near) << 2)
      near &= near - 1
      const i = start + load<i32>(numbers + slot)
      if (!lowerVector(i, start, centroid, d, scratch + 16)) continue
      store<f32>(chunk + slot, reachOf(i, start, field(Field.CENTRES) + (<usize>(group * d) << 2), d))
      store<u16>(foundAt(group, i - start), <u16>param<i32>(1))
      list(group, i - start)
      fell = true
    }
  }
  return fell
}

/** Lowers the distance of a vector; true if it fell. */
// @ts-expect-error: decorator
@inline
function lowerVector(i: i32, start: i32, centroid: usize, d: i32, offsets: usize): bool {
  const x = field(Field.VECTORS) + (<usize>i << 2)
  for (let a: usize = 0; a < <usize>d; a++) {
    store<f32>(offsets + (a << 2), load<f32>(x + a * field(Field.PLANE)) - load<f32>(centroid + (a << 2)))
  }
  let distance = measureOne(offsets, d, formsOf((i - start) % <i32>field(Field.PERIOD), d))
  const weights = field(Field.VECTOR_WEIGHTS)
  if (weights) distance *= load<f32>(weights + (<usize>i << 2))
  const least = field(Field.DISTANCES) + (<usize>i << 2)
  if (!(distance < load<f32>(least))) return false
  store<f32>(least, distance)
  return true
}

/** Lists the column of a vector as stale. */
// @ts-expect-error: decorator
@inline
function list(group: i32, i: i32): void {
  const vectors = <i32>field(Field.TILE_VECTORS)
  const columns = <i32>field(Field.TILE_COLUMNS)
  const firstTile = load<i32>(field(Field.GROUPS) + <usize>group * 24, 8)
  const column = (firstTile + i / vectors) * columns + ((i % vectors) % columns)
  const stale = field(Field.STALE) + <usize>column
  if (load<u8>(stale)) return
  store<u8>(stale, 1)
  store<i32>(field(Field.STALE_LIST) + (<usize>(firstTile * columns + listed) << 2), column)
  listed++
}

/** Brings the listed columns' sums, and the totals of their tiles, up to date. */
function sumStale(group: i32): void {
  const columns = <i32>field(Field.TILE_COLUMNS)
  const firstTile = load<i32>(field(Field.GROUPS) + <usize>group * 24, 8)
  const first = field(Field.STALE_LIST) + (<usize>(firstTile * columns) << 2)
  const end = first + (<usize>listed << 2)
  for (let at = first; at < end; at += 4) {
    const column = load<i32>(at)
    sumColumn(column / columns, column % columns)
  }
  for (let at = first; at < end; at += 4) {
    const column = load<i32>(at)
    if (!load<u8>(field(Field.STALE) + <usize>column)) continue
    const tile = column / columns
    store<f64>(field(Field.LOSSES) + (<usize>tile << 3), totalOf(tile))
    memory.fill(field(Field.STALE) + <usize>(tile * columns), 0, columns)
  }
}
