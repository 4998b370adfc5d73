import { Field, field, project, triangleOf } from './clustering-session'
import { readFound } from './clustering-search'
import { addDistances, measure, weigh, weighted } from './distances'
import { aligned } from '../job'
import { search1, search2, search4, searchAny } from './search'
import { multiplyAdd } from '../simd'
import { searchSorted, sortCodebook } from './sorted-search'

/** Centroids whose norms are kept at once. */
const NORMS: i32 = 256
/** Centroids in one dimension from which on it is faster to sort them. */
const LEAST_SORTED: i32 = 256

/** `M (x - centre)`, scaled as the forms are. */
export function projectTile(tile: i32): void {
  const entry = field(Field.TILES) + (<usize>tile << 4)
  const d = <i32>field(Field.DIMENSIONS)
  const period = <i32>field(Field.PERIOD)
  const plane = field(Field.PLANE)
  const centre = field(Field.CENTRES) + <usize>(load<i32>(entry) * d) * 4
  const first = load<i32>(entry, 4)
  const end = load<i32>(entry, 8)
  let column = (first - load<i32>(entry, 12)) % period
  for (let i = first; i < end; i++) {
    project(i, column, centre, d, plane, field(Field.PROJECTED) + <usize>i * 4)
    if (++column == period) column = 0
  }
}

/** Nearest centroids, distances, their weighted sum and the number of changes of one tile. */
export function assignTile(tile: i32, scratch: usize): void {
  const entry = field(Field.TILES) + (<usize>tile << 4)
  const group = load<i32>(entry)
  if (!load<u8>(field(Field.ACTIVE) + <usize>group)) return
  const d = <i32>field(Field.DIMENSIONS)
  const k = <i32>field(Field.CENTROIDS)
  const period = <i32>field(Field.PERIOD)
  const plane = field(Field.PLANE)
  const first = load<i32>(entry, 4)
  const end = load<i32>(entry, 8)
  const start = load<i32>(entry, 12)
  const triangle = triangleOf(d)
  const codebook = field(Field.CODEBOOKS) + <usize>(group * k * d) * 4
  const sums = scratch
  const offsets = sums + 64
  const norms = offsets + (<usize>d << 5)
  const centred = norms + NORMS * 32
  const products = centred + aligned(<usize>(k * d) * 4)
  const best = products + aligned(<usize>(k * triangle) * 4)
  const found = field(Field.FOUND) != 0
  const isSorted = d == 1 && k >= LEAST_SORTED
  if (isSorted) sortCodebook(codebook, k, centred, products)
  else if (!found) centre(codebook, field(Field.CENTRES) + <usize>(group * d) * 4, k, d, centred, products)
  const vectors = field(Field.VECTORS)
  const projected = field(Field.PROJECTED)
  const assignments = field(Field.ASSIGNMENTS)
  const allDistances = field(Field.DISTANCES)
  const forms = field(Field.FORMS)
  const weights = field(Field.WEIGHTS)
  const vectorWeights = field(Field.VECTOR_WEIGHTS)
  let loss: f64 = 0
  let changed = 0
  const firstEnd = min(first + period, end)
  for (let at = first; at < firstEnd; at += 8) {
    const column = (at - start) % period
    const form = forms + <usize>(column >> 3) * <usize>(triangle << 5)
    const rows = (end - at + period - 1) / period
    if (found) {
      readFound(group, at - start, rows, best)
    } else {
      for (let row = best; row < best + (<usize>rows << 6); row += 64) {
        v128.store(row, f32x4.splat(Infinity))
        v128.store(row, f32x4.splat(Infinity), 16)
        v128.store(row, i32x4.splat(0), 32)
        v128.store(row, i32x4.splat(0), 48)
      }
      const y = projected + <usize>at * 4
      const step = <usize>period * 4
      if (isSorted) searchSorted(vectors + <usize>at * 4, rows, step, centred, products, k, form, best)
      else if (d == 1) search1(vectors + <usize>at * 4, rows, step, codebook, k, form, best)
      for (let from = 0; d > 1 && from < k; from += NORMS) {
        const count = min(NORMS, k - from)
        const centroids = centred + <usize>(from * d) * 4
        const own = products + <usize>(from * triangle) * 4
        if (d == 2) halfNorms2(form, own, count, norms)
        else halfNorms(form, own, count, triangle, norms)
        if (d == 2) search2(y, plane, rows, step, centroids, count, norms, from, best)
        else if (d == 4) search4(y, plane, rows, step, centroids, count, norms, from, best)
        else searchAny(y, plane, d, rows, step, centroids, count, norms, from, best)
      }
    }
    memory.fill(sums, 0, 64)
    let row = best
    for (let i = at; i < end; i += period) {
      const valid = min(8, end - i)
      const to = assignments + <usize>i * 2
      const nearest = i16x8.narrow_i32x4_u(v128.load(row, 32), v128.load(row, 48))
      const same = i16x8.bitmask(i16x8.eq(nearest, v128.load(to))) | (0xffff << valid)
      changed += 8 - popcnt(same & 0xff)
      v128.store(to, nearest)
      const x = vectors + <usize>i * 4
      if (d == 2) offsetsTo2(x, plane, codebook, row + 32, offsets)
      for (let a = 0; d != 2 && a < d; a++) {
        const from = x + <usize>a * plane
        const value = codebook + <usize>a * 4
        const offset = offsets + (<usize>a << 5)
        v128.store(offset, f32x4.sub(v128.load(from), gather(value, d, row + 32)))
        v128.store(offset, f32x4.sub(v128.load(from, 16), gather(value, d, row + 48)), 16)
      }
      const distances = allDistances + <usize>i * 4
      measure(offsets, d, form, valid, distances)
      if (vectorWeights) weigh(distances, vectorWeights + <usize>i * 4)
      addDistances(distances, sums)
      row += 64
    }
    loss += weighted(sums, weights + <usize>column * 8)
  }
  store<f64>(field(Field.LOSSES) + <usize>tile * 8, loss)
  store<i32>(field(Field.CHANGED) + <usize>tile * 4, changed)
}

/** Centroids less the centre, and half the products of their coordinates in the order of a form. */
function centre(codebook: usize, centre: usize, k: i32, d: i32, centred: usize, products: usize): void {
  for (let j = 0; j < k; j++) {
    for (let a = 0; a < d; a++) {
      store<f32>(centred + <usize>a * 4, load<f32>(codebook + <usize>a * 4) - load<f32>(centre + <usize>a * 4))
    }
    for (let a = 0; a < d; a++) {
      const half = load<f32>(centred + <usize>a * 4) * 0.5
      for (let b = a; b < d; b++) {
        store<f32>(products, half * load<f32>(centred + <usize>b * 4))
        products += 4
      }
    }
    codebook += <usize>d * 4
    centred += <usize>d * 4
  }
}

/** {@link halfNorms} for d = 2. */
function halfNorms2(form: usize, products: usize, count: i32, norms: usize): void {
  const left0 = v128.load(form)
  const right0 = v128.load(form, 16)
  const left1 = v128.load(form, 32)
  const right1 = v128.load(form, 48)
  const left2 = v128.load(form, 64)
  const right2 = v128.load(form, 80)
  const end = norms + (<usize>count << 5)
  for (let to = norms; to < end; to += 32) {
    let product = v128.load_splat<f32>(products)
    let left = f32x4.mul(product, left0)
    let right = f32x4.mul(product, right0)
    product = v128.load_splat<f32>(products, 4)
    left = multiplyAdd(product, left1, left)
    right = multiplyAdd(product, right1, right)
    product = v128.load_splat<f32>(products, 8)
    v128.store(to, multiplyAdd(product, left2, left))
    v128.store(to, multiplyAdd(product, right2, right), 16)
    products += 12
  }
}

/** `c^T M c / 2` of `count` centroids under the metrics of 8 columns. */
function halfNorms(form: usize, products: usize, count: i32, triangle: i32, norms: usize): void {
  const end = norms + (<usize>count << 5)
  for (let to = norms; to < end; to += 32) {
    let left = f32x4.splat(0)
    let right = f32x4.splat(0)
    let q = form
    for (let t = 0; t < triangle; t++) {
      const product = v128.load_splat<f32>(products)
      left = multiplyAdd(product, v128.load(q), left)
      right = multiplyAdd(product, v128.load(q, 16), right)
      products += 4
      q += 32
    }
    v128.store(to, left)
    v128.store(to, right, 16)
  }
}

/** One coordinate of the centroids of 4 vectors. */
// @ts-expect-error: decorator
@inline
function gather(codebook: usize, d: i32, indices: usize): v128 {
  let values = v128.load32_zero(codebook + <usize>(load<i32>(indices) * d) * 4)
  values = v128.load32_lane(codebook + <usize>(load<i32>(indices, 4) * d) * 4, values, 1)
  values = v128.load32_lane(codebook + <usize>(load<i32>(indices, 8) * d) * 4, values, 2)
  return v128.load32_lane(codebook + <usize>(load<i32>(indices, 12) * d) * 4, values, 3)
}

/** Both coordinates of 8 vectors less those of their centroids. */
// @ts-expect-error: decorator
@inline
function offsetsTo2(x: usize, plane: usize, codebook: usize, indices: usize, offsets: usize): void {
  for (let half: usize = 0; half < 32; half += 16) {
    const first = pairOf(codebook, indices + half)
    const second = pairOf(codebook, indices + half + 8)
    v128.store(offsets + half, f32x4.sub(v128.load(x + half), v128.shuffle<f32>(first, second, 0, 2, 4, 6)))
    const other = v128.shuffle<f32>(first, second, 1, 3, 5, 7)
    v128.store(offsets + half, f32x4.sub(v128.load(x + plane + half), other), 32)
  }
}

/** The centroids of 2 vectors, one after the other. */
// @ts-expect-error: decorator
@inline
function pairOf(codebook: usize, indices: usize): v128 {
  const first = v128.load64_zero(codebook + (<usize>load<i32>(indices) << 3))
  return v128.load64_lane(codebook + (<usize>load<i32>(indices, 4) << 3), first, 1)
}
