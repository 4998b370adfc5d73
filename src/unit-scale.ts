import { type Matrix, matrix } from './matrix.js'

/** Numbers between 2^-ORDINARY and 2^ORDINARY can be multiplied and summed in float32 without a thought. */
const ORDINARY = 30

/**
 * A matrix in units in which float32 neither overflows nor underflows: multiplied by a power of two that brings its
 * largest element near 1, which is exact. One of ordinary size is returned as it is.
 *
 * @returns `exponent`: the matrix given is `scaled * 2^exponent`
 */
export function inOrdinaryUnits(m: Matrix): { readonly scaled: Matrix; readonly exponent: number } {
  let largest = 0
  for (let i = 0; i < m.data.length; i++) {
    const size = Math.abs(m.data[i])
    if (size > largest) largest = size
  }
  const exponent = largest === 0 || !Number.isFinite(largest) ? 0 : Math.floor(Math.log2(largest))
  if (Math.abs(exponent) <= ORDINARY) return { scaled: m, exponent: 0 }
  const scaled = m.data.map((value) => value * 2 ** -exponent)
  return { scaled: matrix(m.rows, m.cols, scaled), exponent }
}
