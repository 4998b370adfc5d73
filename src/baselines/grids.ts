import { NumericError } from '../common/errors.js'
import { assertFinite, type Matrix } from '../common/matrix.js'
import { halfToFloat } from '../kernels/half.js'
import { groupsPerRow, type ScalarLayer, scalarGrid, symmetricGrid } from '../packing/scalar-layer.js'
import type { ScalarSettings } from './scalar-options.js'

/** A scale (bits of a half) and a zero point (a code). */
export interface Grid {
  readonly scale: number
  readonly zero: number
}

/** Weights that share a grid: rows `from` to `to - 1`, columns `start` to `end - 1`. */
export interface Cell {
  readonly from: number
  readonly to: number
  readonly start: number
  readonly end: number
}

/** Scales below this lose digits as a half: it is subnormal there. */
const LEAST_SCALE = 2 ** -18

/** A layer to be filled, for weights that were checked. @throws NumericError naming the layer */
export function emptyScalarLayer(weight: Matrix, settings: ScalarSettings, name: string): ScalarLayer {
  const { bits } = settings
  assertFinite(weight, name)
  requireScalesFit(weight, bits, name)
  const { rows, cols } = weight
  const groupSize = settings.groupSize ?? Math.max(1, cols)
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

/** Refuses a layer whose scales all underflow: its weights would come out as 0, or nearly so. */
function requireScalesFit({ data }: Matrix, bits: number, name: string): void {
  let largest = 0
  for (let i = 0; i < data.length; i++) if (Math.abs(data[i]) > largest) largest = Math.abs(data[i])
  if (largest === 0 || largest / (2 ** bits - 1) >= LEAST_SCALE) return
  throw new NumericError(
    `${name}: its largest weight is ${largest}; with ${bits} bits its scales are below what a half holds well ` +
      `(${LEAST_SCALE}). Use gptvq, fewer bits, or multiply the layer by a power of two`,
  )
}

/** The cells of the columns from `start` on: a row each, or all rows together. */
export function cellsFrom(layer: ScalarLayer, start: number, { granularity }: ScalarSettings): Cell[] {
  const end = Math.min(start + layer.groupSize, layer.cols)
  if (granularity === 'tensor') return [{ from: 0, to: layer.rows, start, end }]
  return Array.from({ length: layer.rows }, (_, r) => ({ from: r, to: r + 1, start, end }))
}

/**
 * The grids that are tried for a cell, the last one spanning its weights: all of them over shares of the same span.
 *
 * @throws NumericError when the scale is beyond the range of a half
 */
export function candidateGrids(
  { data, cols }: Matrix,
  { from, to, start, end }: Cell,
  { bits, grid, scaleSearch, scaleCandidates }: ScalarSettings,
  name: string,
): Grid[] {
  let low = 0
  let high = 0
  for (let r = from; r < to; r++) {
    for (let at = r * cols + start; at < r * cols + end; at++) {
      if (data[at] < low) low = data[at]
      else if (data[at] > high) high = data[at]
    }
  }
  const count = scaleSearch === 'minmax' ? 1 : scaleCandidates
  const laid = grid === 'symmetric' ? symmetricGrid : scalarGrid
  try {
    const spanning = laid(low, high, bits)
    if (low === 0 && high === 0) return [spanning]
    const narrower = Array.from({ length: count - 1 }, (_, i) => (i + 1) / count)
    return [...narrower.map((share) => laid(low * share, high * share, bits)), spanning]
  } catch (error) {
    if (!(error instanceof NumericError)) throw error
    throw new NumericError(`${name}: row ${from}, column ${start} on: ${error.message}`)
  }
}

/** Gives the weights of a cell a grid. */
export function setGrid(layer: ScalarLayer, { from, to, start }: Cell, { scale, zero }: Grid): void {
  const perRow = groupsPerRow(layer.cols, layer.groupSize)
  for (let r = from; r < to; r++) {
    const group = r * perRow + start / layer.groupSize
    layer.scales[group] = scale
    layer.zeros[group] = zero
  }
}

/** The value that a grid has nearest to a weight. */
export function rounded(weight: number, scale: number, zero: number, largest: number): number {
  const code = Math.round(weight / scale) + zero
  return ((code < 0 ? 0 : code > largest ? largest : code) - zero) * scale
}

/** The squared error of a cell's weights on a grid. */
export function weightError({ data, cols }: Matrix, cell: Cell, grid: Grid, bits: number): number {
  const scale = halfToFloat(grid.scale)
  const largest = 2 ** bits - 1
  let sum = 0
  for (let r = cell.from; r < cell.to; r++) {
    for (let at = r * cols + cell.start; at < r * cols + cell.end; at++) {
      const error = data[at] - rounded(data[at], scale, grid.zero, largest)
      sum += error * error
    }
  }
  return sum
}

/** The grid of the least loss, of equal ones the widest. */
export function leastLoss(grids: readonly Grid[], lossOf: (grid: Grid) => number): Grid {
  let best = grids[grids.length - 1]
  if (grids.length === 1) return best
  let least = Number.POSITIVE_INFINITY
  for (let i = grids.length - 1; i >= 0; i--) {
    const loss = lossOf(grids[i])
    if (loss < least) [best, least] = [grids[i], loss]
  }
  return best
}

/** Rounds all weights to the grids that a layer has. */
export function writeCodes({ data }: Matrix, layer: ScalarLayer): void {
  const { rows, cols, codes, scales, zeros, groupSize } = layer
  const largest = 2 ** layer.bits - 1
  // nothing is done per weight that can be done per group: an embedding has hundreds of millions of weights
  let group = 0
  for (let row = 0; row < rows * cols; row += cols) {
    for (let start = row; start < row + cols; start += groupSize, group++) {
      const scale = halfToFloat(scales[group])
      const zero = zeros[group]
      const end = Math.min(start + groupSize, row + cols)
      for (let at = start; at < end; at++) {
        const code = Math.round(data[at] / scale) + zero
        codes[at] = code < 0 ? 0 : code > largest ? largest : code
      }
    }
  }
}
