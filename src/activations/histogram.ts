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
 * Counts values in `bins` bins over the span of the first part. Where a later part goes beyond, bins are doubled in width
 * until all fits, so that no value is lost and no part is seen twice.
 *
 * @param bins an even number
 */
export function histogramCounter(bins: number): HistogramCounter {
  let counts = new Float64Array(bins)
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
  return {
    add(values) {
      if (values.length === 0) return
      const [least, most] = extremes(values)
      const isFirst = width === 0
      low = Math.min(low, least)
      high = Math.max(high, most)
      if (isFirst) {
        // values that are all alike get a bin in the middle
        start = least === most ? least - 0.5 : least
        width = (least === most ? 1 : most - least) / bins
      }
      while (high > start + bins * width * (1 + 1e-9)) widen(true)
      while (low < start) widen(false)
      for (const value of values) {
        counts[Math.max(0, Math.min(bins - 1, Math.floor((value - start) / width)))]++
      }
    },
    histogram: () => (width === 0 ? undefined : { counts, start, width, low, high }),
  }
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
