import { requireDamping, requireObject } from '../check-option.js'
import { pacer } from '../event-loop.js'
import { dampedInverseFactor, ownFactors, requireFit, type SharedFactors } from '../inverse-factor.js'
import { copyMatrix, type Matrix } from '../matrix.js'
import type { ScalarLayer } from '../packing/scalar-layer.js'
import { flushErrors, solveError, spreadError } from '../propagation.js'
import { emptyScalarLayer, fitGrids, quantizeWeight, type ScalarOptions } from './rtn.js'

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

/**
 * GPTQ (Frantar et al. 2022, arXiv 2210.17323): round column by column, the columns to come absorb each error. A
 * group's grid is taken from the weights as updated when the group starts.
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
  requireObject('options', options)
  const { damping = 0.01, name = 'weight', signal, factors = ownFactors } = options
  requireDamping(damping)
  const pause = pacer(signal)
  const layer = emptyScalarLayer(weight, options, name)
  requireFit(weight, hessian, name)
  const { factor, dead } = await factors(`gptq ${damping}`, () =>
    dampedInverseFactor(hessian, damping, weight.cols, name, pause),
  )
  const work = copyMatrix(weight)
  for (let i = 0; i < work.data.length; i++) if (dead[i % work.cols]) work.data[i] = 0
  for (let start = 0; start < work.cols; start += layer.groupSize) {
    await pause()
    fitGrids(work, start, layer, name)
    quantizeGroup(work, factor, start, layer)
  }
  return layer
}

function quantizeGroup(work: Matrix, factor: Matrix, start: number, layer: ScalarLayer): void {
  const end = Math.min(start + layer.groupSize, work.cols)
  const width = end - start
  const errors = new Float32Array(work.rows * width)
  const error = new Float64Array(1)
  for (let r = 0; r < work.rows; r++) {
    const row = r * work.cols
    for (let column = start; column < end; column++) {
      error[0] = work.data[row + column] - quantizeWeight(work.data[row + column], r, column, layer)
      solveError(error, 1, factor, column)
      errors[r * width + column - start] = error[0]
      spreadError(work.data, row, error, 1, factor, column, end)
    }
  }
  flushErrors(work, errors, factor, start, end)
}
