import type { ClusterProblem } from '../../contract.js'

/** Weights of metrics below this power of two, beside the largest, count as it. */
const LEAST_WEIGHT = -900
/** Exponent of zero: below that of every number. */
const ZERO_EXPONENT = -1100

/** The metrics of all columns, in the three forms that the steps read. */
export interface ColumnMetrics {
  /** Per 8 columns, quadratic forms scaled to at most 1: upper triangle x 8, off the diagonal doubled. */
  readonly forms: Float32Array
  /** Per column, what its form is to be multiplied by: a power of two. */
  readonly weights: Float64Array
  /** Per column, the weighted metric's upper triangle. */
  readonly metrics: Float64Array
  /** The power of two that was taken off all weights. */
  readonly exponent: number
}

export function columnMetrics({ d, metric, period: given }: ClusterProblem, period: number): ColumnMetrics {
  const triangle = (d * (d + 1)) / 2
  const forms = new Float32Array(period * triangle)
  const weights = new Float64Array(period)
  const metrics = new Float64Array(period * triangle)
  // a metric of zeros has no size of its own
  const exponents = Int32Array.from({ length: given }, (_, p) =>
    exponentOf(metric.subarray(p * d * d, (p + 1) * d * d)),
  )
  const exponent = exponents.reduce((largest, e) => Math.max(largest, e), ZERO_EXPONENT)
  for (let column = 0; column < period; column++) {
    const p = column % given
    const below = Math.max(LEAST_WEIGHT, exponents[p] - exponent)
    weights[column] = 2 ** below
    const form = (column >> 3) * triangle * 8 + (column & 7)
    let t = 0
    for (let a = 0; a < d; a++) {
      for (let b = a; b < d; b++) {
        const value = (metric[(p * d + a) * d + b] + metric[(p * d + b) * d + a]) / 2
        forms[form + 8 * t] = scaled(value, -exponent - below) * (a === b ? 1 : 2)
        metrics[column * triangle + t] = scaled(value, -exponent)
        t++
      }
    }
  }
  return { forms, weights, metrics, exponent }
}

/** The least e with all `|values| < 2^e`, up to the rounding of a logarithm. */
export function exponentOf(values: ArrayLike<number>): number {
  let largest = 0
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]))
  return largest > 0 ? Math.floor(Math.log2(largest)) + 1 : ZERO_EXPONENT
}

/** `value 2^exponent`, without overflow on the way. */
export function scaled(value: number, exponent: number): number {
  const [factor, rest] = factorsOf(exponent)
  return value * factor * rest
}

/** Two numbers whose product is `2^exponent`: one alone may be beyond the largest number. */
export function factorsOf(exponent: number): readonly [number, number] {
  const half = Math.trunc(exponent / 2)
  return [2 ** half, 2 ** (exponent - half)]
}
