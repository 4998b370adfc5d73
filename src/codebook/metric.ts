import { NumericError, ShapeError } from '../common/errors.js'
import type { Matrix } from '../common/matrix.js'

/** By how much, in proportion, float32 rounding may disturb a metric. */
const METRIC_TOLERANCE = 1e-5

/** `period` symmetric d x d metrics, one after the other; vector `i` is measured by metric `i % period`. */
export interface Metric {
  readonly period: number
  readonly data: Float64Array
}

/** The metric in which every vector is measured by plain squared distance. */
export function identityMetric(d: number): Metric {
  const data = new Float64Array(d * d)
  for (let a = 0; a < d; a++) data[a * d + a] = 1
  return { period: 1, data }
}

/**
 * Reads a caller's metric: p x d (a diagonal per row) or p x d*d (a full symmetric matrix per row). `p` must divide
 * the number of vectors.
 *
 * @throws ShapeError when the shape is neither or does not divide; NumericError for NaN, infinity, negative weights and
 *   matrices that are not symmetric or cannot be positive semidefinite
 */
export function readMetric(metric: Matrix, n: number, d: number): Metric {
  const { rows: period, cols } = metric
  if (n % period !== 0) {
    throw new ShapeError(`metric has ${period} rows, which does not divide the ${n} vectors it belongs to`)
  }
  if (cols !== d && cols !== d * d) {
    throw new ShapeError(
      `metric has ${cols} columns; for vectors of ${d} dimensions expected ${d} (diagonal) or ${d * d} (full)`,
    )
  }
  const data = new Float64Array(period * d * d)
  for (let p = 0; p < period; p++) {
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) {
        if (cols === d * d) data[(p * d + a) * d + b] = metric.data[(p * d + a) * d + b]
        else if (a === b) data[(p * d + a) * d + a] = metric.data[p * d + a]
      }
    }
  }
  assertMetric(data, period, d)
  return { period, data }
}

function assertMetric(data: Float64Array, period: number, d: number): void {
  for (let p = 0; p < period; p++) {
    const at = (a: number, b: number) => data[(p * d + a) * d + b]
    for (let a = 0; a < d; a++) {
      if (!(at(a, a) >= 0 && at(a, a) < Number.POSITIVE_INFINITY)) {
        throw new NumericError(
          `metric ${p}: found ${at(a, a)} at (${a}, ${a}); expected a finite number not below 0`,
        )
      }
      for (let b = 0; b < a; b++) {
        const size = Math.sqrt(at(a, a) * at(b, b))
        const isSymmetric = Math.abs(at(a, b) - at(b, a)) <= METRIC_TOLERANCE * size
        if (isSymmetric && Math.abs(at(a, b)) <= (1 + METRIC_TOLERANCE) * size) continue
        throw new NumericError(
          `metric ${p}: found ${at(a, b)} at (${a}, ${b}) and ${at(b, a)} at (${b}, ${a}); expected equal numbers of ` +
            `at most ${size}, as every positive semidefinite matrix has them`,
        )
      }
    }
  }
}
