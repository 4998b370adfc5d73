import type { Matrix } from '../../common/matrix.js'
import { randomGenerator, randomNormal } from '../../common/random.js'
import { wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { dequantizeScalar, type ScalarLayer } from '../../packing/scalar-layer.js'
import {
  forEachGroup,
  gridBytes,
  isOnGrid,
  MARGIN,
  nearest,
  openGrid,
  outermostRate,
  setScales,
  storedGrid,
} from './grid.js'
import type { Trainable } from './trainable.js'

/** How a weight is trained by factors of low rank. */
export interface LowRankOptions {
  /** Columns of the left factor, rows of the right one. */
  readonly rank: number
  /** Bits of a frozen weight: those of its code, and what is left of these for the place within the code's cell. */
  readonly frozenBits: 8 | 16
  /** Learning rate of scales as a share of that of the factors. */
  readonly scaleRate: number
  /** Seed of the left factor. */
  readonly seed: number
}

/**
 * The weight of a scalar layer in LR-QAT (Bondarenko et al. 2024, arXiv 2406.06385): `s clip(round(F + A B))`, where the
 * weight `F` is frozen in fixed point, counted in steps of the grid, and only the factors and the scales `s` are trained.
 * Their product lies inside the rounding, so that nothing of them is left in the layer that is stored. The gradient passes
 * the rounding as in {@link trainableScalar}.
 *
 * Parameters: `left` (rows x rank, at first random), `right` (rank x cols, at first 0), both in steps of the grid, and
 * `scales` (rows x groups per row) over the first ones.
 *
 * @param full the weight before it was quantized, rows x cols
 * @param start gives grid and codes: each weight starts as near to its full value as {@link MARGIN} allows
 */
export function trainableLowRank(
  full: Matrix,
  start: ScalarLayer,
  { rank, frozenBits, scaleRate, seed }: LowRankOptions,
): Trainable {
  const grid = openGrid(start)
  const { rows, cols } = start
  const { zeros, codes } = grid.layer
  const most = 2 ** start.bits - 1
  const frozen = freeze(full, start, grid.first, frozenBits)
  const unit = 2 ** (start.bits - frozenBits)
  const random = randomGenerator(seed)
  const left = Float32Array.from({ length: rows * rank }, () => randomNormal(random) / Math.sqrt(rank))
  const right = new Float32Array(rank * cols)
  const scales = new Float32Array(grid.first.length).fill(1)
  const product = () => {
    const moves = new Float32Array(rows * cols)
    const [a, b] = [wholeBlock(left, rank), wholeBlock(right, cols)]
    kernels().gemm('AB', rows, cols, rank, 1, a, b, 0, wholeBlock(moves, cols))
    return moves
  }
  // the middle of the frozen number's own cell; rounded, it is the code
  const placeOf = (at: number) => (frozen[at] + 0.5) * unit - 0.5
  return {
    parameters: [
      { name: 'left', values: left, sizes: 1, decays: true },
      { name: 'right', values: right, sizes: 1, decays: true },
      { name: 'scales', values: scales, sizes: outermostRate(scaleRate, start.bits), decays: false },
    ],
    frozenBytes: frozen.byteLength + gridBytes(grid),
    refresh() {
      setScales(grid, scales)
      const moves = product()
      for (let at = 0; at < codes.length; at++) codes[at] = nearest(placeOf(at) + moves[at], most)
    },
    values: () => dequantizeScalar(grid.layer).data,
    layer: () => storedGrid(grid),
    addGradient(onValues, [onLeft, onRight, onScales]) {
      const onMoves = product()
      forEachGroup(start, (group, from, to) => {
        let onScale = 0
        for (let at = from; at < to; at++) {
          onMoves[at] = isOnGrid(placeOf(at) + onMoves[at], most) ? onValues[at] * grid.scales[group] : 0
          onScale += onValues[at] * (codes[at] - zeros[group])
        }
        onScales[group] += onScale * grid.first[group]
      })
      const [slopes, a, b] = [wholeBlock(onMoves, cols), wholeBlock(left, rank), wholeBlock(right, cols)]
      const [toLeft, toRight] = [onLeft as Float32Array, onRight as Float32Array]
      kernels().gemm('ABt', rows, rank, cols, 1, slopes, b, 1, wholeBlock(toLeft, rank))
      kernels().gemm('AtB', rank, cols, rows, 1, a, slopes, 1, wholeBlock(toRight, cols))
    },
  }
}

/** Each weight as a fixed-point number: its upper bits are its code, the others its place in the code's cell. */
function freeze(
  full: Matrix,
  start: ScalarLayer,
  scales: Float32Array,
  frozenBits: 8 | 16,
): Uint8Array | Uint16Array {
  const frozen = frozenBits === 8 ? new Uint8Array(full.data.length) : new Uint16Array(full.data.length)
  const places = 2 ** (frozenBits - start.bits)
  const edge = Math.floor(places * MARGIN)
  forEachGroup(start, (group, from, to) => {
    for (let at = from; at < to; at++) {
      const value = full.data[at] / scales[group] + start.zeros[group] + 0.5
      const place = Math.floor((value - start.codes[at]) * places)
      frozen[at] = start.codes[at] * places + Math.min(places - 1 - edge, Math.max(edge, place))
    }
  })
  return frozen
}
