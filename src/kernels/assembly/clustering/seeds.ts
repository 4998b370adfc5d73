import { Field, field, triangleOf } from './clustering-session'
import { addDistances, measure, weigh, weighted } from './distances'
import { param } from '../job'

/** Lowers the distances of one tile to those from centroid `seed` (parameter 1); their weighted sum goes to LOSSES. */
export function measureSeedTile(tile: i32, scratch: usize): void {
  const entry = field(Field.TILES) + (<usize>tile << 4)
  const group = load<i32>(entry)
  if (!load<u8>(field(Field.ACTIVE) + <usize>group)) return
  const seed = param<i32>(1)
  const d = <i32>field(Field.DIMENSIONS)
  const k = <i32>field(Field.CENTROIDS)
  const period = <i32>field(Field.PERIOD)
  const plane = field(Field.PLANE)
  const first = load<i32>(entry, 4)
  const end = load<i32>(entry, 8)
  const start = load<i32>(entry, 12)
  const centroid = field(Field.CODEBOOKS) + <usize>((group * k + seed) * d) * 4
  const sums = scratch
  const distances = sums + 64
  const offsets = distances + 32
  const vectorWeights = field(Field.VECTOR_WEIGHTS)
  let total: f64 = 0
  const firstEnd = min(first + period, end)
  for (let at = first; at < firstEnd; at += 8) {
    const column = (at - start) % period
    const form = field(Field.FORMS) + <usize>(column >> 3) * <usize>(triangleOf(d) << 5)
    memory.fill(sums, 0, 64)
    for (let i = at; i < end; i += period) {
      const valid = min(8, end - i)
      let x = field(Field.VECTORS) + <usize>i * 4
      let offset = offsets
      for (let a = 0; a < d; a++) {
        const value = v128.load_splat<f32>(centroid + (<usize>a << 2))
        v128.store(offset, f32x4.sub(v128.load(x), value))
        v128.store(offset, f32x4.sub(v128.load(x, 16), value), 16)
        x += plane
        offset += 32
      }
      measure(offsets, d, form, valid, distances)
      if (vectorWeights) weigh(distances, vectorWeights + <usize>i * 4)
      const least = field(Field.DISTANCES) + <usize>i * 4
      if (seed == 0) {
        v128.store(least, v128.load(distances))
        v128.store(least, v128.load(distances, 16), 16)
      } else {
        v128.store(least, f32x4.pmin(v128.load(least), v128.load(distances)))
        v128.store(least, f32x4.pmin(v128.load(least, 16), v128.load(distances, 16)), 16)
      }
      addDistances(least, sums)
    }
    total += weighted(sums, field(Field.WEIGHTS) + <usize>column * 8)
  }
  store<f64>(field(Field.LOSSES) + <usize>tile * 8, total)
}

/** Draws a vector of one group in proportion to the distances; it becomes the centroid after `seed` (parameter 1). */
export function drawSeedTile(group: i32): void {
  if (!load<u8>(field(Field.ACTIVE) + <usize>group)) return
  const entry = field(Field.GROUPS) + <usize>group * 24
  const firstTile = load<i32>(entry, 8)
  const tiles = load<i32>(entry, 12)
  const start = load<i32>(entry, 16)
  const totals = field(Field.LOSSES) + (<usize>firstTile << 3)
  const uniform = load<f64>(field(Field.UNIFORM) + (<usize>group << 3))
  let total: f64 = 0
  for (let t = 0; t < tiles; t++) total += load<f64>(totals + (<usize>t << 3))
  let chosen: i32
  if (total > 0) {
    let rest = uniform * total
    let tile = -1
    for (let t = 0; t < tiles; t++) {
      const share = load<f64>(totals + (<usize>t << 3))
      if (share == 0) continue
      if (tile >= 0) rest -= load<f64>(totals + (<usize>tile << 3))
      tile = t
      if (rest < share) break
    }
    chosen = drawWithin(field(Field.TILES) + (<usize>(firstTile + tile) << 4), start, rest)
  } else {
    chosen = start + <i32>(uniform * <f64>load<i32>(entry, 20))
  }
  const d = <i32>field(Field.DIMENSIONS)
  const k = <i32>field(Field.CENTROIDS)
  const centroid = field(Field.CODEBOOKS) + <usize>((group * k + param<i32>(1) + 1) * d) * 4
  let x = field(Field.VECTORS) + <usize>chosen * 4
  for (let a = 0; a < d; a++) {
    store<f32>(centroid + (<usize>a << 2), load<f32>(x))
    x += field(Field.PLANE)
  }
}

/** The vector of a tile at which its distances, added up, exceed `rest`; rounding aside, there is one. */
function drawWithin(entry: usize, start: i32, rest: f64): i32 {
  const period = <i32>field(Field.PERIOD)
  const weights = field(Field.WEIGHTS)
  const end = load<i32>(entry, 8)
  const first = load<i32>(entry, 4)
  let column = (first - start) % period
  let chosen = first
  for (let i = first; i < end; i++) {
    const share = <f64>load<f32>(field(Field.DISTANCES) + <usize>i * 4) * load<f64>(weights + (<usize>column << 3))
    if (share > 0) {
      chosen = i
      rest -= share
      if (rest < 0) return chosen
    }
    if (++column == period) column = 0
  }
  return chosen
}
