import { param } from '../job'
import { multiplyAdd } from '../simd'
import { AS_PIECES, lowIn, stepsIn } from './packed-activations'
import {
  field,
  groupsOf,
  LEVEL_PAIRS,
  ROWS,
  ROWS_PER_GROUP,
  RUNS,
  SEGMENT_COUNT,
  SLOTS,
  STATE_BITS,
  scaleAt,
  segmentAt,
  stretchAt,
  VECTOR_DIM,
} from './packed-weight'
import { addRun, TILE } from './trellis-run'
import { heightOf, levelCodesAt, regionAt, tailOf, writePairs } from './trellis-streams'

/** Bytes of the sums of a tile for two operands, and of a tile's floats. */
const SUMS_BYTES: usize = 128
const FLOATS_BYTES: usize = 64

/** Parameters: the weight; the pair of each vector that is multiplied. One tile. */
export function writePairsTile(): void {
  writePairs(param<usize>(0), param<i32>(1))
}

/**
 * `Y = X W^T`, or one half of vectors of 4 added to it, for few rows of X and a weight of a trellis. Sums within a segment
 * are exact; they are scaled and added up in float32.
 *
 * Parameters: the weight; where rows of X are, bytes of one, their kind, how many; address and stride of Y; tiles of 16 rows
 * that a job takes at once, and how many times it does in a row group; the pair of each vector. Scratch: sums of
 * each tile | factors of each | totals of each, for all rows of X.
 */
export function multiplyTrellisTile(job: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const m = param<i32>(4)
  const atOnce = param<i32>(7)
  const group = job / param<i32>(8)
  const first = (job % param<i32>(8)) * atOnce
  const last = min(first + atOnce, heightOf(weight, group) / TILE)
  if (first >= last) return
  const totals = scratch + <usize>(last - first) * (SUMS_BYTES + FLOATS_BYTES)
  memory.fill(totals, 0, <usize>(m * (last - first)) * FLOATS_BYTES)
  const segments = field(weight, SEGMENT_COUNT)
  for (let segment = 0; segment < segments; segment++) addSegment(weight, group, segment, first, last, scratch, totals)
  storeTotals(group * field(weight, ROWS_PER_GROUP), first, last, m, totals)
}

/** Adds what a segment gives to the totals of some tiles, two operands at a time: pieces of a row of X, or two rows of it. */
function addSegment(weight: usize, group: i32, segment: i32, first: i32, last: i32, sums: usize, totals: usize): void {
  const m = param<i32>(4)
  const bytes = param<usize>(2)
  const isPieces = param<i32>(3) == AS_PIECES
  const slots = field(weight, SLOTS)
  const entry = segmentAt(weight, segment)
  const stretch = stretchAt(weight, segment)
  const tiles = <usize>(last - first)
  const factors = sums + tiles * SUMS_BYTES
  writeFactors(weight, group, entry, first, last, factors)
  const steps = stepsIn(param<usize>(1), slots) + (<usize>segment << 2)
  const pairs = param<usize>(1) + (load<usize>(stretch) << 1) + <usize>(4 * param<i32>(9))
  for (let i = 0; i < m; i += isPieces ? 1 : 2, totals += FLOATS_BYTES) {
    const row = <usize>i * bytes
    const isAlone = i + 1 == m
    const apart = isPieces ? lowIn(0, slots) : isAlone ? 0 : bytes
    addRuns(weight, group, stretch, first, last, pairs + row, apart, sums)
    const step = load<f32>(steps + row)
    if (isPieces) scalePieces(sums, factors, tiles, step, totals, m)
    else {
      scaleWhole(sums, factors, tiles, step, totals, m)
      if (isAlone) continue
      totals += FLOATS_BYTES
      scaleWhole(sums + 64, factors, tiles, load<f32>(steps + row + bytes), totals, m)
    }
  }
}

/** What rows are multiplied by in a segment. */
function writeFactors(weight: usize, group: i32, entry: usize, first: i32, last: i32, factors: usize): void {
  const scale = f32x4.splat(scaleAt(weight, groupsOf(weight, group * field(weight, ROWS_PER_GROUP)), entry))
  const levels = load<usize>(weight, LEVEL_PAIRS)
  const end = factors + <usize>(last - first) * FLOATS_BYTES
  let codes = levelCodesAt(weight, group, load<i32>(entry, 12)) + <usize>(first << 3)
  for (; factors < end; factors += 16, codes += 2) {
    if (levels == 0) v128.store(factors, scale)
    else {
      const two = v128.load64_zero(levels + (<usize>load<u8>(codes) << 3))
      const four = v128.load_lane<u64>(levels + (<usize>load<u8>(codes, 1) << 3), two, 1)
      v128.store(factors, f32x4.mul(scale, four))
    }
  }
}

/** Goes through the streams of a segment, those of one width at a time. */
function addRuns(weight: usize, group: i32, stretch: usize, first: i32, last: i32, x: usize, apart: usize, sums: usize): void {
  const height = heightOf(weight, group)
  const stateBits = field(weight, STATE_BITS)
  const mask: u32 = ((1 << stateBits) - 1) << 2
  const step = <usize>max(4, 2 * field(weight, VECTOR_DIM))
  const end = load<usize>(weight, RUNS) + (load<usize>(stretch, 12) << 3)
  const sumsEnd = sums + <usize>(last - first) * SUMS_BYTES
  let codes = regionAt(weight, group) + <usize>((height >> 3) * load<i32>(stretch, 16) + load<i32>(stretch, 20))
  memory.fill(sums, 0, sumsEnd - sums)
  for (let run = load<usize>(weight, RUNS) + (load<usize>(stretch, 8) << 3); run < end; run += 8) {
    const width = load<i32>(run)
    const count = load<i32>(run, 4)
    const stride = <usize>((height >> 3) * width + tailOf(stateBits, width))
    addRun(width, codes + <usize>(2 * width * (height / TILE - 1 - first)), stride, count, x, step, apart, mask, sums, sumsEnd)
    codes += <usize>count * stride
    x += <usize>count * step
  }
}

/** Adds scaled sums of tiles to totals, of which a tile has one for each of `m` rows of X. */
function scaleWhole(sums: usize, factors: usize, tiles: usize, step: f32, totals: usize, m: i32): void {
  const steps = f32x4.splat(step)
  const end = sums + tiles * SUMS_BYTES
  for (; sums < end; sums += SUMS_BYTES, factors += FLOATS_BYTES, totals += <usize>m * FLOATS_BYTES) {
    for (let at: usize = 0; at < FLOATS_BYTES; at += 16) {
      const factor = f32x4.mul(v128.load(factors + at), steps)
      v128.store(totals + at, multiplyAdd(factor, f32x4.convert_i32x4_s(v128.load(sums + at)), v128.load(totals + at)))
    }
  }
}

function scalePieces(sums: usize, factors: usize, tiles: usize, step: f32, totals: usize, m: i32): void {
  const steps = f32x4.splat(step)
  const end = sums + tiles * SUMS_BYTES
  for (; sums < end; sums += SUMS_BYTES, factors += FLOATS_BYTES, totals += <usize>m * FLOATS_BYTES) {
    for (let at: usize = 0; at < FLOATS_BYTES; at += 16) {
      const high = f32x4.convert_i32x4_s(v128.load(sums + at))
      const low = f32x4.convert_i32x4_s(v128.load(sums + at, 64))
      const factor = f32x4.mul(v128.load(factors + at), steps)
      const sum = multiplyAdd(f32x4.splat(32768), high, low)
      v128.store(totals + at, multiplyAdd(factor, sum, v128.load(totals + at)))
    }
  }
}

/** Parameters as above: the rows of Y that are. */
function storeTotals(group: i32, first: i32, last: i32, m: i32, totals: usize): void {
  const weight = param<usize>(0)
  const stride = param<usize>(6) << 2
  const end = min(group + field(weight, ROWS_PER_GROUP), field(weight, ROWS))
  for (let tile = first; tile < last; tile++) {
    const row = group + tile * TILE
    let y = param<usize>(5) + (<usize>row << 2)
    for (let i = 0; i < m; i++, y += stride, totals += FLOATS_BYTES) {
      for (let j = 0; j < min(TILE, end - row); j++) {
        const at = y + (<usize>j << 2)
        const total = load<f32>(totals + (<usize>j << 2))
        store<f32>(at, param<i32>(9) == 0 ? total : load<f32>(at) + total)
      }
    }
  }
}
