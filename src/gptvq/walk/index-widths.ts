import { MOST_KEY_BITS, widthError } from '../../codebook/constant-codebook.js'
import type { Matrix } from '../../common/matrix.js'
import type { VqLayout } from '../../packing/vq-layer.js'

/**
 * A column counts as if its weights had this share of the mean square of its block at least: the block's scale is one for
 * all, so that the centroids are no nearer to smaller weights.
 */
const LEAST_SHARE = 0.25

/**
 * Gives columns of vectors indices of the widths that lose least in sum, with as many bits as the layout has. A column of
 * weights counts as what it would lose if all its weights were 0, its mean square over `U_jj^2`; what a column of vectors
 * loses at `w` bits, see {@link lossesByWidth}. Bit by bit, where it gains most.
 *
 * @param squares of each padded column, see {@link columnSquares}
 * @param factor `U`, of which `det(M) = 1 / det(U_PP)^2`
 */
export function fitWidths(layout: VqLayout, squares: Float64Array, factor: Matrix): VqLayout {
  const { trellis, vectorDim: d } = layout
  if (trellis === undefined) return layout
  const total = trellis.widths.reduce((sum, width) => sum + width, 0)
  const columns = columnLosses(layout, squares, factor)
  const losses = Array.from(trellis.widths, (_, v) =>
    lossesByWidth(columns.slice(v * d, (v + 1) * d), trellis.keyBits),
  )
  return { ...layout, trellis: { ...trellis, widths: shareBits(losses, total) } }
}

/** The sum of squares of each column of a matrix. */
export function columnSquares({ data, cols }: Matrix): Float64Array {
  const squares = new Float64Array(cols)
  for (let row = 0; row < data.length; row += cols) {
    for (let j = 0; j < cols; j++) squares[j] += data[row + j] * data[row + j]
  }
  return squares
}

/** What each padded column loses at an error of 1; those that pad lose nothing. */
function columnLosses(layout: VqLayout, squares: Float64Array, factor: Matrix): Float64Array {
  const { cols, scaleBlockSize, columnsPerGroup } = layout
  const block = scaleBlockSize ?? columnsPerGroup
  const losses = new Float64Array(squares.length)
  for (let start = 0; start < cols; start += block) {
    const end = Math.min(start + block, cols)
    const mean = squares.subarray(start, end).reduce((a, b) => a + b, 0) / (end - start)
    for (let j = start; j < end; j++) {
      losses[j] = Math.max(squares[j], LEAST_SHARE * mean) / factor.data[j * (factor.cols + 1)] ** 2
    }
  }
  return losses
}

/**
 * What a column of vectors loses with indices of 0 to `most` bits. Its `d` dimensions, which lose `s` at an error of 1, share
 * the bits, and each loses `gm(s) D(w)`, where `gm` is the geometric mean and `D` the error of the constant codebook on a
 * normal source. A dimension that would lose more so than all of `s` gets no bits and loses `s`, and the `k` others
 * share them: `gm D(w d / k)` (reverse water-filling; Cover and Thomas, Elements of Information Theory, section 10.3.3).
 */
export function lossesByWidth(dimensions: Float64Array, most: number): Float64Array {
  const d = dimensions.length
  const sorted = Float64Array.from(dimensions).sort().reverse()
  return Float64Array.from({ length: most + 1 }, (_, width) => {
    let left = 0
    for (let k = d; k > 1; k--) {
      const level = sharedLoss(sorted.subarray(0, k), width)
      if (level < sorted[k - 1]) return k * level + left
      left += sorted[k - 1]
    }
    return sharedLoss(sorted.subarray(0, 1), width) + left
  })

  function sharedLoss(coded: Float64Array, width: number): number {
    const k = coded.length
    return coded.reduce((product, s) => product * s, 1) ** (1 / k) * errorAt(d, (width * d) / k)
  }
}

/** The error of the constant codebook with indices of `width` bits, whole or not, or more than there are. */
function errorAt(d: number, width: number): number {
  const below = Math.min(Math.floor(width), MOST_KEY_BITS - 1)
  const error = (bits: number) => (bits === 0 ? 1 : widthError(d, bits))
  return error(below) * (error(below + 1) / error(below)) ** (width - below)
}

/**
 * Widths of `total` bits in sum, from 1 bit on, of least `sum losses[v][width[v]]`: as far as each further bit gains no more
 * than the one before, those that gain most are the best. Where a dimension begins to share the bits, one may gain more; it
 * then counts as much as the one before, and the sum is near the least.
 */
export function shareBits(losses: readonly Float64Array[], total: number): Uint8Array {
  const steps = losses[0].length - 2
  const gains = new Float64Array(losses.length * steps)
  for (const [v, loss] of losses.entries()) {
    let gain = Number.POSITIVE_INFINITY
    for (let i = 0; i < steps; i++) {
      gain = Math.min(gain, loss[i + 1] - loss[i + 2])
      gains[v * steps + i] = gain
    }
  }
  const order = Uint32Array.from(gains.keys()).sort(
    (a, b) => gains[b] - gains[a] || (a % steps) - (b % steps) || a - b,
  )
  const widths = new Uint8Array(losses.length).fill(1)
  for (let i = 0; i < total - losses.length; i++) widths[Math.floor(order[i] / steps)]++
  return widths
}
