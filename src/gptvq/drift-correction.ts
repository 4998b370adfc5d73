import { requireShare } from '../check-option.js'
import { ShapeError } from '../errors.js'
import { type Pause, pacer } from '../event-loop.js'
import { dampedInverseFactor, requireFit } from '../inverse-factor.js'
import { fromRow, type ProductForm, wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import { assertFinite, type Matrix, matrix } from '../matrix.js'

/** Rows that are multiplied before others are let in. */
const ROWS_PER_TURN = 512

/** How a layer's surroundings in the quantized model differ from those in the full model, over the same tokens. */
export interface LayerDrift {
  /** in x in, `(2 / tokens) (X_full - X)^T X` for inputs `X` in the quantized model (see DriftAccumulator). */
  readonly input: Matrix
  /** out x in, `(2 / tokens) (R_full - R)^T X` for the residual stream `R` that the layer's output is added to. */
  readonly residual?: Matrix
}

/** Options of {@link correctDrift}. */
export interface DriftCorrectionOptions {
  /** Share of the input's drift that is made up for, 0 to 1, default 1. */
  inputShare?: number
  /** Share of the residual stream's drift that is made up for, 0 to 1, default 1. */
  residualShare?: number
  /** Share of the mean of the Hessian's diagonal that is added to the diagonal, default 0.01. */
  damping?: number
  /** How errors name the layer, default `'weight'`. */
  name?: string
  /** Stops the work with an AbortedError. */
  signal?: AbortSignal
}

/**
 * The weights that a layer of the quantized model should have in order to do what it does in the full model: with
 * inputs `X` instead of `X_full` and a residual stream `R` instead of `R_full`, least squares over the tokens give
 * `W + (a W (X_full - X)^T X + b (R_full - R)^T X) (X^T X + damping)^-1`. The part `a` is the asymmetric calibration of
 * GPTAQ (Li et al. 2025, arXiv 2504.02692). Quantize towards the result, with the Hessian of `X`.
 *
 * @param weight out x in
 * @param hessian in x in, `(2 / tokens) X^T X` of the inputs in the quantized model, undamped
 * @returns a new matrix, out x in
 * @throws OptionError, ShapeError, NumericError naming the layer, AbortedError
 */
export async function correctDrift(
  weight: Matrix,
  hessian: Matrix,
  drift: LayerDrift,
  options: DriftCorrectionOptions = {},
): Promise<Matrix> {
  const { inputShare = 1, residualShare = 1, damping = 0.01, name = 'weight', signal } = options
  requireShare('inputShare', inputShare)
  requireShare('residualShare', residualShare)
  requireFit(weight, hessian, name)
  requireDrift(weight, drift, name)
  const { rows, cols } = weight
  const pull = matrix(rows, cols)
  const pause = pacer(signal)
  await multiplyRows('AB', inputShare, weight, drift.input, 0, pull, pause)
  if (drift.residual) {
    for (let i = 0; i < pull.data.length; i++) pull.data[i] += residualShare * drift.residual.data[i]
  }
  // U^T U is the inverse of the damped Hessian over the mean of its diagonal
  const { factor, dead } = await dampedInverseFactor(hessian, damping, cols, name, pause)
  const half = matrix(rows, cols)
  await multiplyRows('ABt', 1, pull, factor, 0, half, pause)
  const corrected = matrix(rows, cols, weight.data.slice())
  await multiplyRows('AB', 1 / meanDiagonal(hessian), half, factor, 1, corrected, pause)
  for (let i = 0; i < corrected.data.length; i++) {
    if (dead[i % cols]) corrected.data[i] = weight.data[i]
  }
  assertFinite(corrected, `${name}, corrected for drift`)
  return corrected
}

/** `C = beta C + alpha A B`, or with B^T, for a square B; some rows at a time. */
async function multiplyRows(
  form: ProductForm,
  alpha: number,
  a: Matrix,
  b: Matrix,
  beta: 0 | 1,
  c: Matrix,
  pause: Pause,
): Promise<void> {
  const { rows, cols } = a
  const blockOf = (m: Matrix, row: number) => fromRow(wholeBlock(m.data, cols), row)
  for (let row = 0; row < rows; row += ROWS_PER_TURN) {
    await pause()
    const height = Math.min(ROWS_PER_TURN, rows - row)
    kernels().gemm(form, height, cols, cols, alpha, blockOf(a, row), blockOf(b, 0), beta, blockOf(c, row))
  }
}

function requireDrift(weight: Matrix, { input, residual }: LayerDrift, name: string): void {
  const { rows, cols } = weight
  if (input.rows !== cols || input.cols !== cols) {
    throw new ShapeError(
      `${name}: the drift of the inputs is ${input.rows} x ${input.cols}, expected ${cols} x ${cols}`,
    )
  }
  assertFinite(input, `${name}: drift of the inputs`)
  if (residual === undefined) return
  if (residual.rows !== rows || residual.cols !== cols) {
    throw new ShapeError(
      `${name}: the drift of the residual is ${residual.rows} x ${residual.cols}, expected ${rows} x ${cols}`,
    )
  }
  assertFinite(residual, `${name}: drift of the residual`)
}

function meanDiagonal({ data, rows }: Matrix): number {
  let trace = 0
  for (let i = 0; i < rows; i++) trace += data[i * rows + i]
  return trace > 0 ? trace / rows : 1
}
