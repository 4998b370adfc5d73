import { widthError } from '../../codebook/constant-codebook.js'
import type { Matrix } from '../../matrix.js'
import type { VqLayout } from '../../packing/vq-layer.js'

/**
 * Gives columns of vectors indices of the widths that lose least in sum, with as many bits as the layout has: what a
 * column loses at `w` bits is taken to be `det(M)^(1/d) v D(w)`, where `v` is the geometric mean of the mean squares of
 * its weights and `D` the error of the constant codebook on a normal source. Bit by bit, where it gains most.
 *
 * @param work rows x padded columns
 * @param factor `U`, of which `det(M) = 1 / det(U_PP)^2`
 */
export function fitWidths(layout: VqLayout, work: Matrix, factor: Matrix): VqLayout {
  const { trellis, vectorDim: d } = layout
  if (trellis === undefined) return layout
  const total = trellis.widths.reduce((sum, width) => sum + width, 0)
  const importance = Float64Array.from(trellis.widths, (_, v) => columnLoss(work, factor, v, d))
  return { ...layout, trellis: { ...trellis, widths: shareBits(importance, d, total, trellis.keyBits) } }
}

/** What a column of vectors loses at an error of 1. */
function columnLoss({ data, rows, cols }: Matrix, factor: Matrix, vector: number, d: number): number {
  let product = 1
  for (let column = vector * d; column < (vector + 1) * d; column++) {
    let squares = 0
    for (let at = column; at < data.length; at += cols) squares += data[at] * data[at]
    product *= squares / rows / factor.data[column * (factor.cols + 1)] ** 2
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
