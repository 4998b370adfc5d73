import type { Matrix } from '../../common/matrix.js'
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

/**
 * The weight of a scalar layer in quantization-aware training: every weight has a full-precision value, which is rounded
 * whenever it is used. The gradient passes the rounding as if it were not there (straight-through) and stops where a
 * weight lies beyond the grid; scales are learned as in LSQ (Esser et al. 2020, arXiv 1902.08153). Zero points stay.
 *
 * Parameters are counted in steps of the grid, so that one learning rate fits all layers: `weights` (rows x cols) are the
 * values over the first scale of their group, `scales` (rows x groups per row) those over the first ones.
 *
 * @param full the weight before it was quantized, rows x cols
 * @param start gives grid and codes: each weight starts as near to its full value as {@link MARGIN} allows
 * @param scaleRate learning rate of scales as a share of that of weights
 */
export function trainableScalar(full: Matrix, start: ScalarLayer, scaleRate: number): Trainable {
  const grid = openGrid(start)
  const { zeros, codes } = grid.layer
  const most = 2 ** start.bits - 1
  const weights = new Float32Array(full.data.length)
  const scales = new Float32Array(grid.first.length).fill(1)
  forEachGroup(start, (group, from, to) => {
    for (let at = from; at < to; at++) {
      const cell = codes[at] - zeros[group]
      const value = full.data[at] / grid.first[group]
      weights[at] = Math.min(cell + 0.5 - MARGIN, Math.max(cell - 0.5 + MARGIN, value))
    }
  })
  return {
    parameters: [
      { name: 'weights', values: weights, sizes: 1, decays: true },
      { name: 'scales', values: scales, sizes: outermostRate(scaleRate, start.bits), decays: false },
    ],
    frozenBytes: gridBytes(grid),
    refresh() {
      setScales(grid, scales)
      forEachGroup(start, (group, from, to) => {
        nearestCodes(codes, weights, grid.first[group] / grid.scales[group], zeros[group], most, from, to)
      })
    },
    values: () => dequantizeScalar(grid.layer).data,
    layer: () => storedGrid(grid),
    addGradient(onValues, [onWeights, onScales]) {
      const given = { onValues, weights, codes, onWeights: onWeights as Float32Array }
      forEachGroup(start, (group, from, to) => {
        const first = grid.first[group]
        const place = { first, ratio: first / grid.scales[group], zero: zeros[group], most }
        onScales[group] += addGroupGradient(given, place, from, to)
      })
    },
  }
}

/** The code of each weight: `round(weight * ratio + zero)` within the grid. */
function nearestCodes(
  codes: Uint8Array,
  weights: Float32Array,
  ratio: number,
  zero: number,
  most: number,
  from: number,
  to: number,
): void {
  for (let at = from; at < to; at++) codes[at] = nearest(weights[at] * ratio + zero, most)
}

interface GradientArrays {
  readonly onValues: Float32Array
  readonly weights: Float32Array
  readonly codes: Uint8Array
  readonly onWeights: Float32Array
}

interface GroupPlace {
  /** The first scale. */
  readonly first: number
  /** The first scale over the one now. */
  readonly ratio: number
  readonly zero: number
  /** The greatest code. */
  readonly most: number
}

/** Adds the gradient on the weights of a group. @returns that on its scale */
function addGroupGradient(
  { onValues, weights, codes, onWeights }: GradientArrays,
  { first, ratio, zero, most }: GroupPlace,
  from: number,
  to: number,
): number {
  let onScale = 0
  for (let at = from; at < to; at++) {
    const slope = onValues[at] * first
    const value = weights[at] * ratio
    const isInside = isOnGrid(value + zero, most)
    if (isInside) onWeights[at] += slope
    onScale += slope * (codes[at] - zero - (isInside ? value : 0))
  }
  return onScale
}
