import { leastKey, paddedClasses, ROW_BYTES, SHIFT, sweep } from './trellis-sweep'

/**
 * The best keys down one path. Minima are kept of `window` rows at a time; of a path with more, those before the first
 * row of each window as well, from which the way back makes the others again.
 */

/**
 * @param rows weights of the path's rows, ROW_BYTES each, and as many for one row more
 * @param table minima of a window's rows and of the row above; `window` rows of them hold any path in one
 * @param starts minima before each window
 * @param keys receives a 16-bit key for each row
 */
export function findPath(
  count: i32,
  d: i32,
  w: i32,
  classes: i32,
  packed: usize,
  rows: usize,
  window: i32,
  table: usize,
  starts: usize,
  keys: usize,
): void {
  const bytes = <usize>paddedClasses(classes) << 2
  // all bits before the first row are 0: nothing else is in reach
  for (let at: usize = 4; at < bytes; at += 4) store<f32>(table + at, Infinity)
  store<f32>(table, 0)
  store<f32>(rows, 0, SHIFT)
  let first = 0
  let start = starts
  while (true) {
    memory.copy(start, table, bytes)
    const height = min(window, count - first)
    sweepWindow(first, height, d, w, classes, packed, rows, table, bytes)
    if (first + height == count) break
    memory.copy(table, table + <usize>height * bytes, bytes)
    first += height
    start += bytes
  }
  let at = count - 1
  let key = lastKey(d, w, classes, packed, rows + <usize>at * ROW_BYTES, table + <usize>(at - first) * bytes)
  store<u16>(keys + (<usize>at << 1), <u16>key)
  while (--at >= 0) {
    if (at < first) {
      first -= window
      start -= bytes
      memory.copy(table, start, bytes)
      sweepWindow(first, window, d, w, classes, packed, rows, table, bytes)
    }
    const above = table + <usize>(at - first) * bytes
    key = leastKey(key >>> w, d, w, classes, packed, rows + <usize>at * ROW_BYTES, above)
    store<u16>(keys + (<usize>at << 1), <u16>key)
  }
}

/** Fills the table from its first row down. */
function sweepWindow(
  first: i32,
  count: i32,
  d: i32,
  w: i32,
  classes: i32,
  packed: usize,
  rows: usize,
  table: usize,
  bytes: usize,
): void {
  let row = rows + <usize>first * ROW_BYTES
  for (let i = 0; i < count; i++) {
    sweep(d, w, classes, packed, row, table, table + bytes)
    row += ROW_BYTES
    table += bytes
  }
}

/** The lowest key of those that cost least up to the last row; `above` are the minima above that, its own follow. */
function lastKey(d: i32, w: i32, classes: i32, packed: usize, row: usize, above: usize): i32 {
  const least = above + (<usize>paddedClasses(classes) << 2)
  const lowest = load<f32>(row, ROW_BYTES + SHIFT)
  let best = classes << w
  for (let v = 0; v < classes; v++) {
    if (load<f32>(least + (<usize>v << 2)) != lowest) continue
    best = min(best, leastKey(v, d, w, classes, packed, row, above))
  }
  return best
}
