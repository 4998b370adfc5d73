import { NumericError, ShapeError } from '../errors.js'
import type { Matrix } from '../matrix.js'

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
 * @throws ShapeError when the shape is neither or does not divide; NumericError when a weight is negative, NaN or infinite
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
  assertMetric(data, d)
  return { period, data }
}

function assertMetric(data: Float64Array, d: number): void {
  for (let i = 0; i < data.length; i++) {
    const row = Math.floor(i / d) % d
    const onDiagonal = i % d === row
    if (!Number.isFinite(data[i]) || (onDiagonal && data[i] < 0)) {
      const p = Math.floor(i / (d * d))
      throw new NumericError(
        `metric ${p}: found ${data[i]} at (${row}, ${i % d}); expected finite numbers, not negative on the diagonal`,
      )
    }
  }
}
