import { type OptionNames, refuseUnknown } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import type { Matrix } from '../common/matrix.js'
import { requireFit, requireSymmetric } from '../hessian/inverse-factor.js'
import type { ScalarLayer } from '../packing/scalar-layer.js'
import {
  candidateGrids,
  cellsFrom,
  emptyScalarLayer,
  leastLoss,
  setGrid,
  weightError,
  writeCodes,
} from './grids.js'
import { searchByOutputs } from './output-search.js'
import { resolveScalarOptions, type ScalarOptions, scalarOptionNames } from './scalar-options.js'

/** Options of {@link quantizeRtn}. */
export interface RtnOptions extends ScalarOptions {
  /** in x in, `(2 / tokens) X^T X`, undamped: what `scaleSearch: 'sequential-mse'` knows of the layer's inputs. */
  hessian?: Matrix
}

const optionNames: OptionNames<RtnOptions> = { ...scalarOptionNames, hessian: true }

/**
 * Rounds every weight (out x in) alone to the nearest point of its grid: the plainest baseline. What can be chosen is the
 * grid, see {@link ScalarOptions}.
 *
 * @param name how errors name the layer, default `'weight'`
 * @throws OptionError, ShapeError, NumericError naming the layer
 */
export function quantizeRtn(weight: Matrix, options: RtnOptions, name = 'weight'): ScalarLayer {
  refuseUnknown(options, optionNames)
  const settings = resolveScalarOptions(options)
  const { hessian } = options
  const layer = emptyScalarLayer(weight, settings, name)
  if (settings.scaleSearch === 'sequential-mse') {
    if (hessian === undefined) {
      throw new OptionError(
        'hessian',
        `scaleSearch 'sequential-mse' needs the Hessian of the inputs of ${name}; give it, or search by 'mse'`,
      )
    }
    requireFit(weight, hessian, name)
    requireSymmetric(hessian, name)
    searchByOutputs(weight, hessian, layer, settings, name)
  } else {
    for (let start = 0; start < weight.cols; start += layer.groupSize) {
      for (const cell of cellsFrom(layer, start, settings)) {
        const grids = candidateGrids(weight, cell, settings, name)
        setGrid(
          layer,
          cell,
          leastLoss(grids, (grid) => weightError(weight, cell, grid, layer.bits)),
        )
      }
    }
  }
  writeCodes(weight, layer)
  return layer
}
