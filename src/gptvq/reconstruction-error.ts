import { NumericError, ShapeError } from '../common/errors.js'
import { type Matrix, matrix, requireMatrix } from '../common/matrix.js'
import { inOrdinaryUnits, ordinaryExponent, scaledDown } from '../hessian/unit-scale.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'

/** Floats of a panel of rows; bounds the memory of the losses of a large layer. */
const PANEL_VALUES = 2 ** 20

/** The error of a layer's outputs. */
export interface ReconstructionError {
  /** `tr((W-Q) H (W-Q)^T) / tr(W H W^T)`; 0 for a layer whose inputs or weights are all zero. */
  readonly relative: number
  /** `-10 log10(relative)`, Infinity for an exact layer. */
  readonly snrDb: number
}

/**
 * How far a layer's outputs move when `quantized` takes the place of `weight` (both out x in) on inputs with the
 * (undamped) `hessian` (in x in), relative to the outputs' energy: the loss that GPTQ and GPTVQ minimise (van Baalen et
 * al. 2024, section 2).
 *
 * @param name how errors name the layer
 * @throws ShapeError when the three do not fit together
 * @throws NumericError when one of them holds NaN or infinity
 */
export function reconstructionError(
  weight: Matrix,
  quantized: Matrix,
  hessian: Matrix,
  name = 'a layer',
): ReconstructionError {
  requireMatrix(weight, 'weight')
  requireMatrix(quantized, 'quantized')
  requireMatrix(hessian, 'hessian')
  const { rows, cols } = weight
  if (quantized.rows !== rows || quantized.cols !== cols || hessian.rows !== cols || hessian.cols !== cols) {
    throw new ShapeError(
      `weight ${rows} x ${cols}, quantized ${quantized.rows} x ${quantized.cols} and Hessian ` +
        `${hessian.rows} x ${hessian.cols} do not fit: expected two of the same shape and ${cols} x ${cols}`,
    )
  }
  return errorOfRows(rowErrors(weight, quantized, hessian, ordinaryExponent(weight)), name)
}

/** What a layer's error is made of, row by row: rows do not see each other, so some may be measured elsewhere. */
export interface RowErrors {
  /** `w H w^T` of each row. */
  readonly energies: Float64Array
  /** `(w - q) H (w - q)^T` of each row. */
  readonly losses: Float64Array
}

/**
 * Measures rows of a layer.
 *
 * @param weight rows x in
 * @param quantized rows x in
 * @param exponent of the whole layer: see `ordinaryExponent`
 */
export function rowErrors(weight: Matrix, quantized: Matrix, hessian: Matrix, exponent: number): RowErrors {
  const { rows, cols } = weight
  const difference = matrix(rows, cols)
  for (let i = 0; i < difference.data.length; i++) difference.data[i] = weight.data[i] - quantized.data[i]
  const units = inOrdinaryUnits(hessian).scaled
  const energies = rowEnergies(scaledDown(weight, exponent), units)
  return { energies, losses: rowEnergies(scaledDown(difference, exponent), units) }
}

/**
 * The error of a layer from that of all its rows.
 *
 * @param name how errors name the layer
 * @throws NumericError when a row holds NaN or infinity
 */
export function errorOfRows({ energies, losses }: RowErrors, name: string): ReconstructionError {
  const [energy, loss] = [sum(energies), Math.max(0, sum(losses))]
  if (!Number.isFinite(energy) || !Number.isFinite(loss)) {
    throw new NumericError(
      `the error of ${name} cannot be measured: tr(W H W^T) is ${energy} and the loss ${loss}, expected finite numbers. ` +
        'Weights or Hessian hold NaN or infinity, or their product outgrows float32',
    )
  }
  const relative = loss === 0 ? 0 : loss / energy
  return { relative, snrDb: -10 * Math.log10(relative) }
}

/** `tr(D H D^T)` for `D` of rows x cols. */
export function hessianEnergy(difference: Matrix, hessian: Matrix): number {
  return sum(rowEnergies(difference, hessian))
}

/** `d H d^T` for each row `d`. */
function rowEnergies({ rows, data: d }: Matrix, hessian: Matrix): Float64Array {
  const n = hessian.rows
  const panelRows = Math.max(1, Math.min(rows, Math.floor(PANEL_VALUES / n)))
  const product = new Float32Array(panelRows * n)
  const energies = new Float64Array(rows)
  for (let first = 0; first < rows; first += panelRows) {
    const height = Math.min(panelRows, rows - first)
    const panel = { data: d, offset: first * n, stride: n }
    kernels().gemm('AB', height, n, n, 1, panel, wholeBlock(hessian.data, n), 0, wholeBlock(product, n))
    for (let r = 0; r < height; r++) {
      let energy = 0
      for (let i = r * n; i < (r + 1) * n; i++) energy += d[first * n + i] * product[i]
      energies[first + r] = energy
    }
  }
  return energies
}

const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0)
