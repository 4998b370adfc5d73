import { type Matrix, matrix } from '../common/matrix.js'

/** Numbers between 2^-ORDINARY and 2^ORDINARY can be multiplied and summed in float32 without a thought. */
const ORDINARY = 30

/**
 * The exponent of the power of two that a matrix is divided by so that float32 neither overflows nor underflows: that of
 * its largest element, or 0 where that is of ordinary size.
 */
export function ordinaryExponent({ data }: Matrix): number {
  let largest = 0
  for (let i = 0; i < data.length; i++) {
    const size = Math.abs(data[i])
    if (size > largest) largest = size
  }
  const exponent = largest === 0 || !Number.isFinite(largest) ? 0 : Math.floor(Math.log2(largest))
  return Math.abs(exponent) <= ORDINARY ? 0 : exponent
}

/** A matrix times `2^-exponent`, which is exact; the same one where that is no change. */
export function scaledDown(m: Matrix, exponent: number): Matrix {
  if (exponent === 0) return m
  return matrix(
    m.rows,
    m.cols,
    m.data.map((value) => value * 2 ** -exponent),
  )
}

/**
 * A matrix in units in which float32 neither overflows nor underflows.
 *
 * @returns `exponent`: the matrix given is `scaled * 2^exponent`
 */
export function inOrdinaryUnits(m: Matrix): { readonly scaled: Matrix; readonly exponent: number } {
  const exponent = ordinaryExponent(m)
  return { scaled: scaledDown(m, exponent), exponent }
}
