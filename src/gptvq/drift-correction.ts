import {
  type OptionNames,
  refuseUnknown,
  requireDamping,
  requireList,
  requirePositive,
  requireShare,
} from '../common/check-option.js'
import { ShapeError } from '../common/errors.js'
import { type Pause, pacer } from '../common/event-loop.js'
import { assertFinite, type Matrix, matrix } from '../common/matrix.js'
import { dampedInverseFactor, ownFactors, requireFit, type SharedFactors } from '../hessian/inverse-factor.js'
import { fromRow, type ProductForm, wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'

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
  /** How far the weights may move at most, as a share of their norm, default 0.5; infinity: no bound. */
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

const optionNames: OptionNames<DriftCorrectionOptions> = {
  share: true,
  maxMove: true,
  damping: true,
  name: true,
  signal: true,
  factors: true,
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
  refuseUnknown(options, optionNames)
  const { share = 1, maxMove = 0.5, damping = 0.01 } = options
  requireShare('share', share)
  requireDamping(damping)
  requireList('halves', halves)
  if (maxMove !== Number.POSITIVE_INFINITY) requirePositive('maxMove', maxMove)
  return makeUp(weight, await driftPulls(weight, hessian, halves, options), options)
}

/**
 * What the drift of the inputs, or of the residual stream, asks of rows of a layer. Rows do not see each other: those of
 * a layer may be worked out apart.
 */
export interface DriftPull {
  /** By how much each weight would move were all of it made up for, rows x in. */
  readonly moves: Matrix
  /** `<P1, P2>` of each row: see {@link agreementOf}. */
  readonly common: Float64Array
  /** `|P|^2` of each row. */
  readonly energy: Float64Array
}

/** Both parts of the drift; the second where the layers' outputs meet a residual stream. */
export interface DriftPulls {
  readonly input: DriftPull
  readonly residual?: DriftPull
}

/**
 * The first half of {@link correctDrift}, the products, for a layer or some of its rows.
 *
 * @param weight rows x in
 * @param halves their residual drift of the same rows
 * @throws as {@link correctDrift}
 */
export async function driftPulls(
  weight: Matrix,
  hessian: Matrix,
  halves: DriftHalves,
  options: Omit<DriftCorrectionOptions, 'share' | 'maxMove'> = {},
): Promise<DriftPulls> {
  const { damping = 0.01, name = 'weight', signal, factors = ownFactors } = options
  requireFit(weight, hessian, name)
  requireHalves(weight, halves, name)
  const pause = pacer(signal)
  const { factor, dead } = await factors(`drift ${damping}`, () =>
    dampedInverseFactor(hessian, damping, weight.cols, name, pause),
  )
  const drifting = { weight, halves, factor, dead, unit: meanDiagonal(hessian) }
  const input = await pullOf(drifting, inputPull, pause)
  if (halves[0].residual === undefined) return { input }
  return { input, residual: await pullOf(drifting, residualPull, pause) }
}

/**
 * The second half of {@link correctDrift}, for a whole layer.
 *
 * @param weight out x in
 * @param pulls of all its rows
 * @throws NumericError naming the layer
 */
export function makeUp(
  weight: Matrix,
  { input, residual }: DriftPulls,
  options: Pick<DriftCorrectionOptions, 'share' | 'maxMove' | 'name'>,
): CorrectedWeight {
  const { share = 1, maxMove = 0.5, name = 'weight' } = options
  const inputShare = share * agreementOf(input)
  const residualShare = residual ? share * agreementOf(residual) : null
  const move = matrix(weight.rows, weight.cols)
  for (let i = 0; i < move.data.length; i++) {
    const other = residual ? residualShare! * residual.moves.data[i] : 0
    move.data[i] = inputShare * input.moves.data[i] + other
  }
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

/** What both pulls are made from. */
interface Drifting {
  readonly weight: Matrix
  readonly halves: DriftHalves
  /** `U`: `U^T U` is the inverse of the damped Hessian times `unit`. */
  readonly factor: Matrix
  /** 1 for each column whose input is always zero. */
  readonly dead: Uint8Array
  /** The mean of the Hessian's diagonal. */
  readonly unit: number
}

/** Writes `height` rows, from `row` on, of what a half of the tokens pulls the weights to. */
type HalfPull = (weight: Matrix, half: LayerDrift, row: number, height: number, pull: Matrix) => void

const inputPull: HalfPull = (weight, { input }, row, height, pull) =>
  multiply('AB', 1, weight, row, height, input, pull, 0)

const residualPull: HalfPull = ({ cols }, { residual }, row, height, pull) =>
  pull.data.set(residual!.data.subarray(row * cols, (row + height) * cols))

/** The pull of all tokens, as moves of the weights, and how far the halves agree on it in each row. */
async function pullOf(
  { weight, halves, factor, dead, unit }: Drifting,
  halfPull: HalfPull,
  pause: Pause,
): Promise<DriftPull> {
  const { rows, cols } = weight
  const tokens = halves[0].tokens + halves[1].tokens
  const [first, second] = halves.map((half) => half.tokens / tokens)
  const height = Math.min(ROWS_PER_TURN, rows)
  const [raw, one, other] = [matrix(height, cols), matrix(height, cols), matrix(height, cols)]
  const moves = matrix(rows, cols)
  const [common, energy] = [new Float64Array(rows), new Float64Array(rows)]
  for (let row = 0; row < rows; row += height) {
    const count = Math.min(height, rows - row)
    for (const [i, result] of [one, other].entries()) {
      await pause()
      halfPull(weight, halves[i], row, count, raw)
      multiply('ABt', 1, raw, 0, count, factor, result, 0)
    }
    for (let r = 0; r < count; r++) {
      for (let i = r * cols; i < (r + 1) * cols; i++) {
        const both = first * one.data[i] + second * other.data[i]
        common[row + r] += one.data[i] * other.data[i]
        energy[row + r] += both * both
        raw.data[i] = both
      }
    }
    await pause()
    multiply('AB', 1 / unit, raw, 0, count, factor, moves, row)
  }
  for (let at = 0; at < moves.data.length; at += cols) {
    for (let j = 0; j < cols; j++) if (dead[j]) moves.data[at + j] = 0
  }
  return { moves, common, energy }
}

/**
 * The share of a pull that holds on other text. Made up for a share `s` of the pull `P` of all tokens, the error on new
 * text falls by `2 s <S, P> - s^2 |P|^2` in the metric of the inverse Hessian, with `S` the pull of text without end.
 * `<S, P>` is not known, but the pulls `P1` and `P2` of two halves are `S` with noise that has nothing in common, so
 * `<P1, P2>` is an estimate free of bias, and the best share `<P1, P2> / |P|^2`.
 *
 * @returns 0 to 1
 */
function agreementOf({ common, energy }: DriftPull): number {
  const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0)
  const [shared, all] = [sum(common), sum(energy)]
  return all > 0 ? Math.min(1, Math.max(0, shared / all)) : 0
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

/** Checks that both halves of the drift belong to the weight. @throws ShapeError, NumericError naming the layer */
export function requireHalves({ rows, cols }: Matrix, halves: DriftHalves, name: string): void {
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
