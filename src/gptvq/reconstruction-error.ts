import { NumericError, ShapeError } from '../errors.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import { type Matrix, requireMatrix } from '../matrix.js'
import { inOrdinaryUnits } from '../unit-scale.js'

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
  const difference = new Float32Array(weight.data.length)
  for (let i = 0; i < difference.length; i++) difference[i] = weight.data[i] - quantized.data[i]
  const { scaled, exponent } = inOrdinaryUnits(weight)
  if (exponent !== 0) for (let i = 0; i < difference.length; i++) difference[i] *= 2 ** -exponent
  const units = inOrdinaryUnits(hessian).scaled
  const energy = hessianEnergy(scaled.data, rows, units)
  const loss = Math.max(0, hessianEnergy(difference, rows, units))
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
export function hessianEnergy(d: Float32Array, rows: number, hessian: Matrix): number {
  const n = hessian.rows
  const panelRows = Math.max(1, Math.min(rows, Math.floor(PANEL_VALUES / n)))
  const product = new Float32Array(panelRows * n)
  let energy = 0
  for (let first = 0; first < rows; first += panelRows) {
    const height = Math.min(panelRows, rows - first)
    const panel = { data: d, offset: first * n, stride: n }
    kernels().gemm('AB', height, n, n, 1, panel, wholeBlock(hessian.data, n), 0, wholeBlock(product, n))
    for (let i = 0; i < height * n; i++) energy += d[first * n + i] * product[i]
  }
  return energy
}
