import { NumericError } from '../common/errors.js'

/** Values counted in bins of one width. */
export interface Histogram {
  /** Values in each bin. */
  readonly counts: Float64Array
  /** Where the first bin begins. */
  readonly start: number
  /** Of a bin. */
  readonly width: number
  /** The least value seen. */
  readonly low: number
  /** The greatest value seen. */
  readonly high: number
}

/** Counts values that come in parts. */
export interface HistogramCounter {
  /** Adds values. @throws NumericError for NaN and infinity */
  add(values: Float32Array): void
  /** What was counted so far; undefined before the first value. */
  histogram(): Histogram | undefined
}

/**
 * Counts values in `bins` bins over the span of the first part that is not all one value. Where a later part goes beyond,
 * bins are doubled in width until all fits, so that no value is lost and no part is seen twice.
 *
 * @param bins an even number
 */
export function histogramCounter(bins: number): HistogramCounter {
  let counts = new Float64Array(bins)
  // values that are all alike say nothing of how wide bins should be: they wait for another
  let alike = 0
  let start = 0
  let width = 0
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  const widen = (upwards: boolean) => {
    const halved = new Float64Array(bins)
    const first = upwards ? 0 : bins / 2
    for (let i = 0; i < bins; i++) halved[first + Math.floor(i / 2)] += counts[i]
    if (!upwards) start -= bins * width
    counts = halved
    width *= 2
  }
  const binOf = (value: number) => Math.max(0, Math.min(bins - 1, Math.floor((value - start) / width)))
  return {
    add(values) {
      if (values.length === 0) return
      const [least, most] = extremes(values)
      const before = low
      low = Math.min(low, least)
      high = Math.max(high, most)
      if (low === high) {
        alike += values.length
        return
      }
      if (width === 0) {
        start = low
        width = (high - low) / bins
        if (alike > 0) counts[binOf(before)] += alike
      }
      while (high > start + bins * width * (1 + 1e-9)) widen(true)
      while (low < start) widen(false)
      for (const value of values) counts[binOf(value)]++
    },
    histogram() {
      if (width > 0) return { counts, start, width, low, high }
      return alike > 0 ? histogramOfOne(low, alike, bins) : undefined
    },
  }
}

/** Values that are all alike, in the bin in the middle. */
function histogramOfOne(value: number, count: number, bins: number): Histogram {
  const counts = new Float64Array(bins)
  counts[bins / 2] = count
  return { counts, start: value - 0.5, width: 1 / bins, low: value, high: value }
}

function extremes(values: Float32Array): [number, number] {
  let least = Number.POSITIVE_INFINITY
  let most = Number.NEGATIVE_INFINITY
  for (const value of values) {
    if (!Number.isFinite(value)) {
      throw new NumericError(`an activation is ${value}; expected finite numbers. The weights are damaged`)
    }
    if (value < least) least = value
    if (value > most) most = value
  }
  return [least, most]
}
