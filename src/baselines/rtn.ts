import { requireObject, requireWhole } from '../check-option.js'
import { NumericError } from '../errors.js'
import { halfToFloat } from '../kernels/half.js'
import { assertFinite, type Matrix } from '../matrix.js'
import { groupsPerRow, nearestCode, type ScalarLayer, scalarGrid } from '../packing/scalar-layer.js'

/** Scales below this lose digits as a half: it is subnormal there. */
const LEAST_SCALE = 2 ** -18

/** Refuses a layer whose scales all underflow: its weights would come out as 0, or nearly so. */
function requireScalesFit({ data }: Matrix, bits: number, name: string): void {
  const largest = data.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  if (largest === 0 || largest / (2 ** bits - 1) >= LEAST_SCALE) return
  throw new NumericError(
    `${name}: its largest weight is ${largest}; with ${bits} bits its scales are below what a half holds well ` +
      `(${LEAST_SCALE}). Use gptvq, fewer bits, or multiply the layer by a power of two`,
  )
}

/** Options of {@link quantizeRtn}. */
export interface ScalarOptions {
  /** Bits per weight, 1 to 8. */
  bits: number
  /** Weights of a row that share a scale and a zero point, default 128. */
  groupSize?: number
}

/**
 * Rounds every weight (out x in) alone to the nearest point of its group's asymmetric grid: the plainest baseline.
 *
 * @param name how errors name the layer, default `'weight'`
 * @throws OptionError, NumericError naming the layer
 */
export function quantizeRtn(weight: Matrix, options: ScalarOptions, name = 'weight'): ScalarLayer {
  const layer = emptyScalarLayer(weight, options, name)
  const { rows, cols, data } = weight
  const { codes, scales, zeros, groupSize } = layer
  const perRow = groupsPerRow(cols, groupSize)
  const largest = 2 ** layer.bits - 1
  for (let start = 0; start < cols; start += groupSize) {
    fitGrids(weight, start, layer, name)
    const end = Math.min(start + groupSize, cols)
    for (let r = 0; r < rows; r++) {
      const group = r * perRow + start / groupSize
      const scale = halfToFloat(scales[group])
      const zero = zeros[group]
      // `nearestCode`, with what is the same for a group taken out: an embedding has hundreds of millions of weights
      for (let at = r * cols + start; at < r * cols + end; at++) {
        const code = Math.round(data[at] / scale) + zero
        codes[at] = code < 0 ? 0 : code > largest ? largest : code
      }
    }
  }
  return layer
}

/** Checks the options and the weights and makes a layer to be filled. */
export function emptyScalarLayer(weight: Matrix, options: ScalarOptions, name: string): ScalarLayer {
  requireObject('options', options)
  const { bits, groupSize = 128 } = options
  requireWhole('bits', bits, 1, 8)
  requireWhole('groupSize', groupSize, 1)
  assertFinite(weight, name)
  requireScalesFit(weight, bits, name)
  const { rows, cols } = weight
  const groups = groupsPerRow(cols, groupSize)
  return {
    rows,
    cols,
    bits,
    groupSize,
    codes: new Uint8Array(rows * cols),
    scales: new Uint16Array(rows * groups),
    zeros: new Uint8Array(rows * groups),
  }
}

/** Sets scale and zero point of all rows' groups that start at column `start`, from the weights as they stand. */
export function fitGrids(weights: Matrix, start: number, layer: ScalarLayer, name: string): void {
  const end = Math.min(start + layer.groupSize, layer.cols)
  const perRow = groupsPerRow(layer.cols, layer.groupSize)
  for (let r = 0; r < layer.rows; r++) {
    let low = 0
    let high = 0
    for (let j = start; j < end; j++) {
      const w = weights.data[r * weights.cols + j]
      if (w < low) low = w
      else if (w > high) high = w
    }
    const group = r * perRow + start / layer.groupSize
    try {
      const { scale, zero } = scalarGrid(low, high, layer.bits)
      layer.scales[group] = scale
      layer.zeros[group] = zero
    } catch (error) {
      if (!(error instanceof NumericError)) throw error
      throw new NumericError(`${name}: row ${r}, column ${start} on: ${error.message}`)
    }
  }
}

/** Writes the code of one weight and returns the value it stands for. */
export function quantizeWeight(weight: number, row: number, column: number, layer: ScalarLayer): number {
  const group = row * groupsPerRow(layer.cols, layer.groupSize) + Math.floor(column / layer.groupSize)
  const scale = halfToFloat(layer.scales[group])
  const zero = layer.zeros[group]
  const code = nearestCode(weight, scale, zero, layer.bits)
  layer.codes[row * layer.cols + column] = code
  return (code - zero) * scale
}
