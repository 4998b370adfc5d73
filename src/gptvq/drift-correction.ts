import { requireList, requirePositive, requireShare } from '../check-option.js'
import { ShapeError } from '../errors.js'
import { type Pause, pacer } from '../event-loop.js'
import { dampedInverseFactor, ownFactors, requireFit, type SharedFactors } from '../inverse-factor.js'
import { fromRow, type ProductForm, wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import { assertFinite, type Matrix, matrix } from '../matrix.js'

/** Rows that are multiplied before others are let in. */
const ROWS_PER_TURN = 512

/** How a layer's surroundings in the quantized model differ from those in the full model, over the same tokens. */
export interface LayerDrift {
  /** How many tokens it was summed over. */
  readonly tokens: number
  /** in x in, `(2 / tokens) (X_full - X)^T X` for inputs `X` in the quantized model (see DriftAccumulator). */
  readonly input: Matrix
  /** out x in, `(2 / tokens) (R_full - R)^T X` for the residual stream `R` that the layer's output is added to. */
  readonly residual?: Matrix
}

/** The drift over two halves of the tokens, from different text: what only one of them shows is noise. */
export type DriftHalves = readonly [LayerDrift, LayerDrift]

/** Options of {@link correctDrift}. */
export interface DriftCorrectionOptions {
  /** Share, 0 to 1, of the drift that is made up for where both halves agree on it, default 1. */
  share?: number
  /** How far the weights may move at most, as a share of their norm, default 0.5. */
  maxMove?: number
  /** Share of the mean of the Hessian's diagonal that is added to the diagonal, default 0.01. */
  damping?: number
  /** How errors name the layer, default `'weight'`. */
  name?: string
  /** Stops the work with an AbortedError. */
  signal?: AbortSignal
  /** @internal Factors of this Hessian that other layers use too. */
  factors?: SharedFactors
}

/** How far a layer's weights were moved. Norms are Frobenius norms. */
export interface DriftMove {
  /** Share of the input's drift that was made up for. */
  readonly inputShare: number
  /** Share of the residual stream's drift that was made up for, null where there is no such stream. */
  readonly residualShare: number | null
  /** `|W* - W| / |W|`. */
  readonly move: number
  /** What it would be without the bound: larger than `move` where the bound cut it. */
  readonly unboundedMove: number
}

/** What {@link correctDrift} gives. */
export interface CorrectedWeight extends DriftMove {
  /** `W*`, a new matrix, out x in. */
  readonly weight: Matrix
}

/**
 * The weights that a layer of the quantized model should have in order to do what it does in the full model: with
 * inputs `X` instead of `X_full` and a residual stream `R` instead of `R_full`, least squares over the tokens give
 * `W + (a W (X_full - X)^T X + b (R_full - R)^T X) (X^T X + damping)^-1`. The part `a` is the asymmetric calibration of
 * GPTAQ (Li et al. 2025, arXiv 2504.02692). Quantize towards the result, with the Hessian of `X`.
 *
 * Two things keep it from doing harm. Least squares fit noise too, which other text does not share: `a` and `b` are the
 * shares that lower the error on new text most, as far as the halves of the tokens tell (see `agreementOf`). And
 * weights that grow are quantized more coarsely: they move by `maxMove` of their norm at most, which costs about
 * `maxMove^2` of the quantization error.
 *
 * @param weight out x in
 * @param hessian in x in, `(2 / tokens) X^T X` of the inputs in the quantized model, undamped
 * @throws OptionError, ShapeError, NumericError naming the layer, AbortedError
 */
export async function correctDrift(
  weight: Matrix,
  hessian: Matrix,
  halves: DriftHalves,
  options: DriftCorrectionOptions = {},
): Promise<CorrectedWeight> {
  const { share = 1, maxMove = 0.5, damping = 0.01, name = 'weight', signal, factors = ownFactors } = options
  requireShare('share', share)
  requireList('halves', halves)
  requirePositive('maxMove', maxMove)
  requireFit(weight, hessian, name)
  requireHalves(weight, halves, name)
  const { rows, cols } = weight
  const pause = pacer(signal)
  const { factor, dead } = await factors(`drift ${damping}`, () =>
    dampedInverseFactor(hessian, damping, cols, name, pause),
  )
  const pulls = { weight, halves, factor }
  const input = await agreementOf(pulls, inputPull, pause)
  const residual = halves[0].residual && (await agreementOf(pulls, residualPull, pause))
  const inputShare = share * input.share
  const residualShare = residual ? share * residual.share : null
  const sum = input.pull
  for (let i = 0; i < sum.data.length; i++) {
    sum.data[i] = inputShare * sum.data[i] + (residual ? residualShare! * residual.pull.data[i] : 0)
  }
  const move = matrix(rows, cols)
  await multiplyRows('AB', 1 / meanDiagonal(hessian), sum, factor, move, pause)
  for (let i = 0; i < move.data.length; i++) if (dead[i % cols]) move.data[i] = 0
  assertFinite(move, `${name}, corrected for drift`)
  const size = norm(weight)
  const unboundedMove = size > 0 ? norm(move) / size : 0
  // weights that are all zero have no size to compare with, and stay as they are
  const kept = size > 0 ? Math.min(1, maxMove / unboundedMove) : 0
  for (let i = 0; i < move.data.length; i++) move.data[i] = weight.data[i] + kept * move.data[i]
  return {
    weight: move,
    inputShare: kept * inputShare,
    residualShare: residualShare === null ? null : kept * residualShare,
    move: kept * unboundedMove,
    unboundedMove,
  }
}

/** What both parts of a correction are made from. */
interface Pulls {
  readonly weight: Matrix
  readonly halves: DriftHalves
  /** `U`: `U^T U` is the inverse of the damped Hessian times the mean of its diagonal. */
  readonly factor: Matrix
}

/** Writes `height` rows, from `row` on, of what a half of the tokens pulls the weights to. */
type PullOf = (weight: Matrix, half: LayerDrift, row: number, height: number, pull: Matrix) => void

const inputPull: PullOf = (weight, { input }, row, height, pull) =>
  multiply('AB', 1, weight, row, height, input, pull, 0)

const residualPull: PullOf = ({ cols }, { residual }, row, height, pull) =>
  pull.data.set(residual!.data.subarray(row * cols, (row + height) * cols))

/**
 * The pull `P` of all tokens, and the share of it that holds on other text. Made up for a share `s` of it, the error on
 * new text falls by `2 s <S, P> - s^2 |P|^2` in the metric of the inverse Hessian, with `S` the pull of text without
 * end. `<S, P>` is not known, but the pulls `P1` and `P2` of two halves are `S` with noise that has nothing in common,
 * so `<P1, P2>` is an estimate free of bias, and the best share `<P1, P2> / |P|^2`.
 *
 * @returns the pull as `P U^T`, and the share, 0 to 1
 */
async function agreementOf(
  { weight, halves, factor }: Pulls,
  pullOf: PullOf,
  pause: Pause,
): Promise<{ pull: Matrix; share: number }> {
  const { rows, cols } = weight
  const tokens = halves[0].tokens + halves[1].tokens
  const [first, second] = halves.map((half) => half.tokens / tokens)
  const height = Math.min(ROWS_PER_TURN, rows)
  const [raw, one, other] = [matrix(height, cols), matrix(height, cols), matrix(height, cols)]
  const pull = matrix(rows, cols)
  let common = 0
  let energy = 0
  for (let row = 0; row < rows; row += height) {
    const count = Math.min(height, rows - row)
    for (const [i, result] of [one, other].entries()) {
      await pause()
      pullOf(weight, halves[i], row, count, raw)
      multiply('ABt', 1, raw, 0, count, factor, result, 0)
    }
    for (let i = 0, at = row * cols; i < count * cols; i++, at++) {
      const both = first * one.data[i] + second * other.data[i]
      common += one.data[i] * other.data[i]
      energy += both * both
      pull.data[at] = both
    }
  }
  return { pull, share: energy > 0 ? Math.min(1, Math.max(0, common / energy)) : 0 }
}

/** `C = alpha A B`, or with B^T, for a square B; some rows at a time. */
async function multiplyRows(
  form: ProductForm,
  alpha: number,
  a: Matrix,
  b: Matrix,
  c: Matrix,
  pause: Pause,
): Promise<void> {
  for (let row = 0; row < a.rows; row += ROWS_PER_TURN) {
    await pause()
    multiply(form, alpha, a, row, Math.min(ROWS_PER_TURN, a.rows - row), b, c, row)
  }
}

/** `height` rows of `C = alpha A B`, or with B^T, for a square B: those of A from `fromA` on, of C from `fromC` on. */
function multiply(
  form: ProductForm,
  alpha: number,
  a: Matrix,
  fromA: number,
  height: number,
  b: Matrix,
  c: Matrix,
  fromC: number,
): void {
  const n = b.cols
  const [left, result] = [fromRow(wholeBlock(a.data, n), fromA), fromRow(wholeBlock(c.data, n), fromC)]
  kernels().gemm(form, height, n, n, alpha, left, wholeBlock(b.data, n), 0, result)
}

/** Checks that both halves of the drift belong to the weight. */
function requireHalves({ rows, cols }: Matrix, halves: DriftHalves, name: string): void {
  const requireSize = (found: Matrix, height: number, what: string) => {
    if (found.rows !== height || found.cols !== cols) {
      throw new ShapeError(
        `${name}: the drift of the ${what} is ${found.rows} x ${found.cols}, expected ${height} x ${cols}`,
      )
    }
    assertFinite(found, `${name}: drift of the ${what}`)
  }
  for (const { tokens, input, residual } of halves) {
    if (!Number.isSafeInteger(tokens) || tokens < 1) {
      throw new ShapeError(
        `${name}: a half of the drift has ${tokens} tokens, expected a positive whole number`,
      )
    }
    requireSize(input, cols, 'inputs')
    if (residual) requireSize(residual, rows, 'residual')
  }
  if ((halves[0].residual === undefined) !== (halves[1].residual === undefined)) {
    throw new ShapeError(`${name}: only one half of the drift has a residual stream, expected both or none`)
  }
}

/** The Frobenius norm. */
function norm({ data }: Matrix): number {
  let sum = 0
  for (let i = 0; i < data.length; i++) sum += data[i] * data[i]
  return Math.sqrt(sum)
}

function meanDiagonal({ data, rows }: Matrix): number {
  let trace = 0
  for (let i = 0; i < rows; i++) trace += data[i * rows + i]
  return trace > 0 ? trace / rows : 1
}
