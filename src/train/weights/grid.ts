import { floatToHalf, halfToFloat } from '../../kernels/half.js'
import type { ScalarLayer } from '../../packing/scalar-layer.js'

/** The grid of a scalar layer in training: as it was at first, and as it is now. */
export interface Grid {
  /** What would be stored; codes and scales are its own. */
  readonly layer: ScalarLayer
  /** The scales at first, rows x groups per row: the steps that parameters are counted in. */
  readonly first: Float32Array
  /** The scales now, rounded to halves. */
  readonly scales: Float32Array
}

/** Starts from a layer, which is left as it is. */
export function openGrid(start: ScalarLayer): Grid {
  const first = Float32Array.from(start.scales, halfToFloat)
  const layer = { ...start, codes: start.codes.slice(), scales: start.scales.slice() }
  return { layer, first, scales: first.slice() }
}

/** Bytes that a grid keeps beside parameters. */
export function gridBytes({ layer, first, scales }: Grid): number {
  return layer.codes.byteLength + layer.scales.byteLength + first.byteLength + scales.byteLength
}

/**
 * The learning rate of a factor that moves weights in proportion, so that the outermost one of the grid moves `rate` times
 * as far as a weight that is trained by itself: more bits, more steps away from 0.
 */
export function outermostRate(rate: number, bits: number): number {
  return rate / 2 ** (bits - 1)
}

/**
 * How far inside the cell of its code a weight starts at least, in steps of the grid. GPTQ gives a good part of the weights
 * a code that is not their nearest. On the very edge of its cell such a weight would fall back to the nearest one at the
 * first steps, whatever the loss says.
 */
export const MARGIN = 1 / 4

/** The least half that is not 0. */
const LEAST_SCALE = 2 ** -24

/** Sets the scales to so many times the first ones. */
export function setScales({ layer, first, scales }: Grid, factors: ArrayLike<number>): void {
  for (let group = 0; group < first.length; group++) {
    layer.scales[group] = floatToHalf(Math.max(LEAST_SCALE, first[group] * factors[group]))
    scales[group] = halfToFloat(layer.scales[group])
  }
}

/** Goes through the groups of a layer: their numbers, and the weights (of rows x cols) that they span. */
export function forEachGroup(
  { rows, cols, groupSize }: ScalarLayer,
  use: (group: number, from: number, to: number) => void,
): void {
  let group = 0
  for (let row = 0; row < rows * cols; row += cols) {
    for (let from = row; from < row + cols; from += groupSize) {
      use(group++, from, Math.min(from + groupSize, row + cols))
    }
  }
}

/** The nearest code, 0 to `most`; half way between two the greater one. */
export function nearest(value: number, most: number): number {
  // several times as fast as Math.round, which runs once a weight and step
  return value > 0 ? (value < most ? (value + 0.5) | 0 : most) : 0
}

/** Whether rounding alone leads to a code of the grid, 0 to `most`: beyond, a value is clipped. */
export function isOnGrid(value: number, most: number): boolean {
  return value >= -0.5 && value < most + 0.5
}

/** The layer as it stands, in arrays of its own. */
export function storedGrid({ layer }: Grid): ScalarLayer {
  return { ...layer, codes: layer.codes.slice(), scales: layer.scales.slice() }
}
