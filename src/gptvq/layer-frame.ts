import { type Matrix, matrix } from '../common/matrix.js'
import { requireFit } from '../hessian/inverse-factor.js'
import { inOrdinaryUnits, ordinaryExponent, scaledDown } from '../hessian/unit-scale.js'
import { layoutOf } from '../packing/layout.js'
import type { VqLayout } from '../packing/vq-layer.js'
import type { VqSettings } from './options.js'
import { scaleRatio } from './scales/choose-scales.js'
import { type OrderedColumns, orderColumns } from './walk/column-order.js'
import { columnSquares } from './walk/index-widths.js'
import { panelGroupsOf } from './walk/row-panel.js'

/**
 * What all rows of a layer have in common besides the Hessian and the settings. All else of a row group is its own, but
 * for the groups of a panel, of which either all go back from a refinement that ran away, or none.
 */
export interface LayerFrame {
  /** Of the whole layer; its index widths are even as yet. */
  readonly layout: VqLayout
  /** Weights are quantized in units of `2^exponent`. */
  readonly exponent: number
  /** Sums of squares over the rows, one for each column in its order, where index widths are fitted to them. */
  readonly squares?: Float64Array
  /** Ratio of neighbouring scales, for a layout that has them. */
  readonly scaleRatio?: number
  /** Row groups of a panel. */
  readonly panelGroups: number
}

/**
 * Puts rows of a layer into ordinary units, and its columns in their order.
 *
 * @param exponent of the whole layer
 * @throws NumericError naming the layer
 */
export function readyRows(
  weight: Matrix,
  hessian: Matrix,
  exponent: number,
  { columnOrder }: VqSettings,
  name: string,
): OrderedColumns {
  return orderColumns(scaledDown(weight, exponent), inOrdinaryUnits(hessian).scaled, columnOrder, name)
}

/** A copy of the weights with dead columns set to 0 and zero columns added, to whole vectors: what the walk overwrites. */
export function workOf({ weight, hessian }: OrderedColumns, vectorDim: number): Matrix {
  const { rows, cols } = weight
  const paddedCols = Math.ceil(cols / vectorDim) * vectorDim
  const work = matrix(rows, paddedCols)
  const dead = Uint8Array.from({ length: cols }, (_, j) => Number(hessian.data[j * (cols + 1)] === 0))
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < cols; j++) {
      if (!dead[j]) work.data[r * paddedCols + j] = weight.data[r * cols + j]
    }
  }
  return work
}

/**
 * Works out the frame of a layer.
 *
 * @param weight out x in, of the whole layer
 * @param ready all its rows
 * @throws OptionError when the layer cannot be cut as the settings ask
 */
export function frameOf(weight: Matrix, ready: OrderedColumns, settings: VqSettings): LayerFrame {
  const layout = layoutOf(weight.rows, weight.cols, settings)
  const work = workOf(ready, settings.vectorDim)
  const ratio = scaleRatio(layout, work)
  const isFitted = layout.trellis !== undefined && settings.indexWidths !== 'same'
  return {
    layout,
    exponent: ordinaryExponent(weight),
    ...(isFitted && { squares: columnSquares(work) }),
    ...(ratio !== undefined && { scaleRatio: ratio }),
    panelGroups: panelGroupsOf(layout),
  }
}

/**
 * The frame of a layer whose rows are quantized apart from each other.
 *
 * @param weight out x in
 * @param hessian in x in
 * @throws OptionError, ShapeError, NumericError as `quantizeLayer`
 */
export function layerFrame(weight: Matrix, hessian: Matrix, settings: VqSettings, name: string): LayerFrame {
  requireFit(weight, hessian, name)
  return frameOf(weight, readyRows(weight, hessian, ordinaryExponent(weight), settings, name), settings)
}
