import { type OptionNames, refuseUnknown, requireDamping } from '../common/check-option.js'
import { pacer } from '../common/event-loop.js'
import { copyMatrix, type Matrix } from '../common/matrix.js'
import { dampedInverseFactor, ownFactors, requireFit, type SharedFactors } from '../hessian/inverse-factor.js'
import { flushErrors, solveError, spreadError } from '../hessian/propagation.js'
import { halfToFloat } from '../kernels/half.js'
import { nearestCode, type ScalarLayer } from '../packing/scalar-layer.js'
import {
  type Cell,
  candidateGrids,
  cellsFrom,
  emptyScalarLayer,
  type Grid,
  leastLoss,
  setGrid,
  weightError,
} from './grids.js'
import {
  resolveScalarOptions,
  type ScalarOptions,
  type ScalarSettings,
  scalarOptionNames,
} from './scalar-options.js'

/** Options of {@link quantizeGptq}. */
export interface GptqOptions extends ScalarOptions {
  /** Share of the mean of the Hessian's diagonal that is added to the diagonal, default 0.01. */
  damping?: number
  /** How errors name the layer, default `'weight'`. */
  name?: string
  /** Stops the work with an AbortedError. */
  signal?: AbortSignal
  /** @internal Factors of this Hessian that other layers use too. */
  factors?: SharedFactors
}

const optionNames: OptionNames<GptqOptions> = {
  ...scalarOptionNames,
  damping: true,
  name: true,
  signal: true,
  factors: true,
}

/**
 * GPTQ (Frantar et al. 2022, arXiv 2210.17323): round column by column, the columns to come absorb each error. A
 * group's grid is taken from the weights as updated when the group starts; with `scaleSearch: 'sequential-mse'` each grid
 * is tried by rounding the whole group on it, and the one is kept by which the layer's outputs are off least.
 *
 * @param weight out x in
 * @param hessian in x in, `(2 / tokens) X^T X`, undamped
 * @throws OptionError, ShapeError, NumericError naming the layer, AbortedError
 */
export async function quantizeGptq(
  weight: Matrix,
  hessian: Matrix,
  options: GptqOptions,
): Promise<ScalarLayer> {
  refuseUnknown(options, optionNames)
  const { damping = 0.01, name = 'weight', signal, factors = ownFactors } = options
  requireDamping(damping)
  const settings = resolveScalarOptions(options)
  const pause = pacer(signal)
  const layer = emptyScalarLayer(weight, settings, name)
  requireFit(weight, hessian, name)
  const { factor, dead } = await factors(`gptq ${damping}`, () =>
    dampedInverseFactor(hessian, damping, weight.cols, name, pause),
  )
  const work = copyMatrix(weight)
  for (let i = 0; i < work.data.length; i++) if (dead[i % work.cols]) work.data[i] = 0
  for (let start = 0; start < work.cols; start += layer.groupSize) {
    const end = Math.min(start + layer.groupSize, work.cols)
    const errors = new Float32Array(work.rows * (end - start))
    for (const cell of cellsFrom(layer, start, settings)) {
      await pause()
      const grid = chooseGrid(work, factor, cell, settings, name)
      setGrid(layer, cell, grid)
      walkCell(work, factor, cell, grid, layer.bits, { codes: layer.codes, errors })
    }
    flushErrors(work, errors, factor, start, end)
  }
  return layer
}

function chooseGrid(work: Matrix, factor: Matrix, cell: Cell, settings: ScalarSettings, name: string): Grid {
  const grids = candidateGrids(work, cell, settings, name)
  const { bits, scaleSearch } = settings
  if (scaleSearch !== 'sequential-mse') {
    return leastLoss(grids, (grid) => weightError(work, cell, grid, bits))
  }
  return leastLoss(grids, (grid) => walkCell(work, factor, cell, grid, bits))
}

/**
 * Rounds the weights of a cell on a grid from left to right, each row's later weights absorbing the errors.
 *
 * @param kept receives codes (rows x cols) and errors (rows x the cell's columns); left out, the walk is for trial and the
 *   weights stay as they are
 * @returns what it adds to the loss when all later columns absorb what they can
 */
function walkCell(
  work: Matrix,
  factor: Matrix,
  { from, to, start, end }: Cell,
  grid: Grid,
  bits: number,
  kept?: { readonly codes: Uint8Array; readonly errors: Float32Array },
): number {
  const { cols } = work
  const width = end - start
  const scale = halfToFloat(grid.scale)
  const error = new Float64Array(1)
  const trial = new Float32Array(kept ? 0 : width)
  let loss = 0
  for (let r = from; r < to; r++) {
    const at = r * cols
    if (!kept) trial.set(work.data.subarray(at + start, at + end))
    const [row, rowAt] = kept ? [work.data, at] : [trial, -start]
    for (let column = start; column < end; column++) {
      const value = row[rowAt + column]
      const code = nearestCode(value, scale, grid.zero, bits)
      error[0] = value - (code - grid.zero) * scale
      solveError(error, 1, factor, column)
      loss += error[0] * error[0]
      if (kept) {
        kept.codes[at + column] = code
        kept.errors[r * width + column - start] = error[0]
      }
      spreadError(row, rowAt, error, 1, factor, column, end)
    }
  }
  return loss
}
