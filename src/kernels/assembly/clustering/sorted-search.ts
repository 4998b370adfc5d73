/**
 * The search in one dimension for large codebooks: the nearest centroid is beside the place of a vector among the sorted
 * ones. It finds what `search1` finds.
 */

/** Sorts a codebook of k numbers, equal ones by their index: heapsort. Writes the values and, beside them, the indices. */
export function sortCodebook(codebook: usize, k: i32, values: usize, indices: usize): void {
  memory.copy(values, codebook, <usize>k << 2)
  for (let j = 0; j < k; j++) store<i32>(indices + (<usize>j << 2), j)
  for (let root = (k >> 1) - 1; root >= 0; root--) siftDown(values, indices, root, k)
  for (let end = k - 1; end > 0; end--) {
    swap(values, indices, 0, end)
    siftDown(values, indices, 0, end)
  }
}

function siftDown(values: usize, indices: usize, root: i32, end: i32): void {
  for (let child = 2 * root + 1; child < end; child = 2 * root + 1) {
    if (child + 1 < end && isBefore(values, indices, child, child + 1)) child++
    if (!isBefore(values, indices, root, child)) return
    swap(values, indices, root, child)
    root = child
  }
}

// @ts-expect-error: decorator
@inline
function isBefore(values: usize, indices: usize, i: i32, j: i32): bool {
  const a = load<f32>(values + (<usize>i << 2))
  const b = load<f32>(values + (<usize>j << 2))
  return a < b || (a == b && load<i32>(indices + (<usize>i << 2)) < load<i32>(indices + (<usize>j << 2)))
}

// @ts-expect-error: decorator
@inline
function swap(values: usize, indices: usize, i: i32, j: i32): void {
  const value = load<f32>(values + (<usize>i << 2))
  store<f32>(values + (<usize>i << 2), load<f32>(values + (<usize>j << 2)))
  store<f32>(values + (<usize>j << 2), value)
  const index = load<i32>(indices + (<usize>i << 2))
  store<i32>(indices + (<usize>i << 2), load<i32>(indices + (<usize>j << 2)))
  store<i32>(indices + (<usize>j << 2), index)
}

/** Writes the indices of the nearest centroids of the rows of 8 columns, as `search1` does. */
export function searchSorted(
  x: usize,
  rows: i32,
  step: usize,
  values: usize,
  indices: usize,
  count: i32,
  form: usize,
  best: usize,
): void {
  for (let r = 0; r < rows; r++) {
    for (let lane: usize = 0; lane < 32; lane += 4) {
      const nearest = nearestSorted(load<f32>(x + lane), values, indices, count)
      // a metric of 0 leaves index 0
      store<i32>(best + lane, select<i32>(nearest, 0, load<f32>(form + lane) != 0), 32)
    }
    x += step
    best += 64
  }
}

// @ts-expect-error: decorator
@inline
function nearestSorted(x: f32, values: usize, indices: usize, count: i32): i32 {
  // the last value not above x, or the first
  let from = values
  for (let rest = count; rest > 1; ) {
    const half = rest >> 1
    const middle = from + (<usize>half << 2)
    from = select<usize>(middle, from, load<f32>(middle) <= x)
    rest -= half
  }
  const last = values + (<usize>(count - 1) << 2)
  const next = min(from + 4, last)
  const left = abs(x - load<f32>(from))
  const right = abs(x - load<f32>(next))
  const least = min(left, right)
  const toIndex = indices - values
  let nearest = load<i32>(select<usize>(from, next, left <= right) + toIndex)
  // of those as near, which rounding may make some that are not equal, the lowest index
  for (let at = from; abs(x - load<f32>(at)) == least; at -= 4) {
    nearest = min(nearest, load<i32>(at + toIndex))
    if (at == values) break
  }
  for (let at = next; abs(x - load<f32>(at)) == least; at += 4) {
    nearest = min(nearest, load<i32>(at + toIndex))
    if (at == last) break
  }
  return nearest
}
