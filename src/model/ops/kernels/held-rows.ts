import type { Int8Rows } from '../../../kernels/forward-contract.js'
import { forwardKernels } from '../../../kernels/forward-kernels.js'
import type { CachePrecision } from '../ops.js'

/** Keys or values of a cache in the kernels' memory: runs of as many values as a head has dimensions. */
export type CachedRows = Float32Array | CachedInt8Rows

interface CachedInt8Rows extends Int8Rows {
  /** The memory that the codes are in. */
  readonly words: Float32Array
}

const LARGEST_CODE = 127

/** Room for `runs` runs of `size` values. {@link releaseRows} gives it back. */
export function allocateRows(runs: number, size: number, precision: CachePrecision): CachedRows {
  const { allocate, release } = forwardKernels()
  if (precision === 'float32') return allocate(runs * size)
  const words = allocate(Math.ceil((runs * size) / 4))
  try {
    const codes = new Int8Array(words.buffer, words.byteOffset, runs * size)
    return { words, codes, scales: allocate(runs) }
  } catch (error) {
    release(words)
    throw error
  }
}

/** Gives back what {@link allocateRows} took. */
export function releaseRows(rows: CachedRows): void {
  const { release } = forwardKernels()
  if ('codes' in rows) {
    release(rows.words)
    release(rows.scales)
  } else release(rows)
}

/** Copies `count` runs of `size` values, from run `from` on, to run `to` of rows of the same precision. */
export function copyRuns(
  source: CachedRows,
  from: number,
  count: number,
  size: number,
  target: CachedRows,
  to: number,
): void {
  if ('codes' in source && 'codes' in target) {
    target.codes.set(source.codes.subarray(from * size, (from + count) * size), to * size)
    target.scales.set(source.scales.subarray(from, from + count), to)
  } else if (!('codes' in source) && !('codes' in target)) {
    target.set(source.subarray(from * size, (from + count) * size), to * size)
  }
}

/** Writes values, whole runs of `size`, from run `at` on. */
export function storeRuns(values: Float32Array, size: number, rows: CachedRows, at: number): void {
  if (!('codes' in rows)) {
    rows.set(values, at * size)
    return
  }
  for (let first = 0; first < values.length; first += size) {
    const run = at + first / size
    rows.scales[run] = roundRun(values, first, size, rows.codes, run * size)
  }
}

/**
 * Rounds a run of values to codes.
 *
 * @returns their scale: a value is off by half of it at most, which is the largest magnitude / 254. NaN or infinity in a
 * run makes all of it NaN
 */
function roundRun(values: Float32Array, first: number, size: number, codes: Int8Array, at: number): number {
  let largest = 0
  for (let i = 0; i < size; i++) largest = Math.max(largest, Math.abs(values[first + i]))
  const scale = Math.fround(largest / LARGEST_CODE)
  for (let i = 0; i < size; i++) {
    // the scale of values near the smallest number there is may be rounded down by a large share of itself, or to 0
    const code = scale === 0 ? 0 : Math.round(values[first + i] / scale)
    codes[at + i] = Math.max(-LARGEST_CODE, Math.min(LARGEST_CODE, code))
  }
  return Number.isFinite(scale) ? scale : Number.NaN
}
