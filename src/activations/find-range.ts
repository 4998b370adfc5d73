import type { Histogram } from './histogram.js'
import { type ActivationRounding, activationGrid } from './rounding.js'

/**
 * How the range of a static grid is found. `minmax`: all values that were seen. `percentile`: all but a share at either
 * end. `sqnr`: the range of the least squared error over a histogram, with what is clipped weighing three times (the
 * `tf_enhanced` scheme of AIMET).
 */
export type RangeSearch = 'minmax' | 'percentile' | 'sqnr'

/** All values of {@link RangeSearch}. */
export const rangeSearches: readonly RangeSearch[] = ['minmax', 'percentile', 'sqnr']

/** Weight of the error of values beyond the range. */
const CLIPPED_WEIGHT = 3
const ASYMMETRIC_SCALES = 17
const SYMMETRIC_SCALES = 101
const ZERO_POINTS = 21

type Range = readonly [low: number, high: number]

/**
 * The range of a grid for the values of a histogram; it always holds 0.
 *
 * @param percentile 50 to 100, of values within the range at either end; for `'percentile'` only
 */
export function findRange(
  histogram: Histogram,
  rounding: Omit<ActivationRounding, 'range'>,
  search: RangeSearch,
  percentile: number,
): Range {
  if (search === 'percentile') return percentileRange(histogram, percentile)
  const all: Range = [Math.min(0, histogram.low), Math.max(0, histogram.high)]
  if (search === 'minmax' || all[0] === all[1]) return all
  let best = all
  let least = Number.POSITIVE_INFINITY
  for (const range of rounding.symmetric ? symmetricRanges(all, rounding) : asymmetricRanges(all, rounding)) {
    const noise = noiseOf(histogram, range, rounding)
    if (noise < least) [best, least] = [range, noise]
  }
  return best
}

function percentileRange({ counts, start, width }: Histogram, percentile: number): Range {
  const total = counts.reduce((sum, count) => sum + count, 0)
  const edgeAt = (share: number) => {
    let sum = 0
    let bin = 0
    while (bin < counts.length - 1 && sum + counts[bin] < share * total) sum += counts[bin++]
    return start + bin * width
  }
  const high = percentile === 100 ? start + counts.length * width : edgeAt(percentile / 100)
  const low = percentile === 100 ? start : edgeAt(1 - percentile / 100)
  return [Math.min(0, low), Math.max(0, high)]
}

/** Ranges of scales from a hundredth of that which spans all values to just beyond it. */
function symmetricRanges([low, high]: Range, { bits }: Omit<ActivationRounding, 'range'>): Range[] {
  const steps = 2 ** bits - 1
  const widest = (2 * Math.max(high, -low)) / steps
  return Array.from({ length: SYMMETRIC_SCALES }, (_, i) => {
    const scale = (widest * (i + 1)) / (SYMMETRIC_SCALES - 1)
    return [-(2 ** (bits - 1)) * scale, (2 ** (bits - 1) - 1) * scale]
  })
}

/** Ranges of several scales and zero points, none beyond the values that were seen. */
function asymmetricRanges([low, high]: Range, { bits }: Omit<ActivationRounding, 'range'>): Range[] {
  const steps = 2 ** bits - 1
  const widest = (high - low) / steps
  const observed = Math.round(low / widest)
  const count = Math.min(steps + 2, ZERO_POINTS)
  const zeros = Array.from({ length: count - 1 }, (_, i) => Math.round(-steps + (i * steps) / (count - 2)))
  zeros.push(observed)
  const least = widest * observed
  const most = least + widest * steps
  return Array.from(
    { length: ASYMMETRIC_SCALES },
    (_, i) => (widest * (i + 1)) / (ASYMMETRIC_SCALES - 1),
  ).flatMap((scale) =>
    zeros.map((zero): Range => {
      const from = Math.max(least, scale * zero)
      const to = Math.min(most, scale * (zero + steps))
      const own = Math.max((to - from) / steps, Number.MIN_VALUE)
      const first = Math.round(from / own) * own
      return [first, first + steps * own]
    }),
  )
}

/** The squared error of the middles of the bins, each as often as it has values. */
function noiseOf(
  { counts, start, width }: Histogram,
  range: Range,
  rounding: Omit<ActivationRounding, 'range'>,
): number {
  const { scale, zero, largest } = activationGrid(range[0], range[1], rounding)
  let noise = 0
  for (let bin = 0; bin < counts.length; bin++) {
    if (counts[bin] === 0) continue
    const value = start + (bin + 0.5) * width
    const code = Math.round(value / scale) + zero
    const kept = code < 0 ? 0 : code > largest ? largest : code
    const error = (kept - zero) * scale - value
    noise += counts[bin] * error * error * (kept === code ? 1 : CLIPPED_WEIGHT)
  }
  return noise
}
