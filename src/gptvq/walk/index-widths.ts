import { widthError } from '../../codebook/constant-codebook.js'
import type { Matrix } from '../../common/matrix.js'
import type { VqLayout } from '../../packing/vq-layer.js'

/**
 * Gives columns of vectors indices of the widths that lose least in sum, with as many bits as the layout has: what a
 * column loses at `w` bits is taken to be `det(M)^(1/d) v D(w)`, where `v` is the geometric mean of the mean squares of
 * its weights and `D` the error of the constant codebook on a normal source. Bit by bit, where it gains most.
 *
 * @param squares of each padded column, see {@link columnSquares}
 * @param factor `U`, of which `det(M) = 1 / det(U_PP)^2`
 */
export function fitWidths(layout: VqLayout, squares: Float64Array, factor: Matrix): VqLayout {
  const { trellis, vectorDim: d, rows } = layout
  if (trellis === undefined) return layout
  const total = trellis.widths.reduce((sum, width) => sum + width, 0)
  const importance = Float64Array.from(trellis.widths, (_, v) => columnLoss(squares, rows, factor, v, d))
  return { ...layout, trellis: { ...trellis, widths: shareBits(importance, d, total, trellis.keyBits) } }
}

/** The sum of squares of each column of a matrix. */
export function columnSquares({ data, cols }: Matrix): Float64Array {
  const squares = new Float64Array(cols)
  for (let row = 0; row < data.length; row += cols) {
    for (let j = 0; j < cols; j++) squares[j] += data[row + j] * data[row + j]
  }
  return squares
}

/** What a column of vectors loses at an error of 1. */
function columnLoss(squares: Float64Array, rows: number, factor: Matrix, vector: number, d: number): number {
  let product = 1
  for (let column = vector * d; column < (vector + 1) * d; column++) {
    product *= squares[column] / rows / factor.data[column * (factor.cols + 1)] ** 2
  }
  return product ** (1 / d)
}

/**
 * Widths of `total` bits in sum, 1 to `most` each, of least `sum importance[v] D(width[v])`: since each further bit gains
 * less than the one before, those that gain most are the best.
 */
export function shareBits(importance: Float64Array, d: number, total: number, most: number): Uint8Array {
  const steps = most - 1
  const gains = Float64Array.from({ length: importance.length * steps }, (_, i) => {
    const width = 1 + (i % steps)
    return importance[Math.floor(i / steps)] * (widthError(d, width) - widthError(d, width + 1))
  })
  const order = Uint32Array.from(gains.keys()).sort(
    (a, b) => gains[b] - gains[a] || (a % steps) - (b % steps) || a - b,
  )
  const widths = new Uint8Array(importance.length).fill(1)
  for (let i = 0; i < total - importance.length; i++) widths[Math.floor(order[i] / steps)]++
  return widths
}
