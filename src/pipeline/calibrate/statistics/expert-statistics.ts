import { type Matrix, matrix } from '../../../common/matrix.js'
import { HessianAccumulator } from '../../../hessian/hessian.js'
import { withLinears } from '../../../model/decoder/block.js'
import type { Stage } from '../../../model/decoder/block-state.js'
import { forEachBatch, tokensOf } from '../calibration-stream.js'
import { type StoredState, visitStored } from '../stored-state.js'
import { type BlockStream, namingLayers, type StatisticsOptions } from './input-statistics.js'
import type { InputStatistics } from './stage-sums.js'

/** An expert is also shown tokens of the others until it has seen this many for each of its inputs. */
const POOLED_TOKENS_PER_INPUT = 4

/** What is summed of the inputs that the layers of an expert share. */
export interface ExpertSums {
  /** Of the tokens that are routed to it; undefined where none are. */
  readonly own: HessianAccumulator | undefined
  /** Of a sample of all tokens of the layer, as if they had been routed to it. */
  readonly pool: HessianAccumulator
  /** The sum over its own tokens of `|x|^4`. */
  readonly fourthPowers: number
}

/**
 * The statistics of the input that the layers of one expert share. An expert sees only the tokens that are routed to it,
 * perhaps too few to tell the directions its inputs do not have from those they have not shown yet. So the Hessian `S` of
 * its own tokens is shrunk towards the Hessian `P` of a sample of all tokens of the layer, as if they had been routed to
 * it: `H = (1 - a) S + a P` with the share `a = min(1, b / d)` of Ledoit and Wolf (2004), where
 * `b = (sum |x|^4 - n |S|^2) / (n (n - 1))` estimates the squared error of `S` from its own `n` tokens and `d = |S - P|^2`
 * is the squared distance of the two (Frobenius norms; `S = X^T X / n`). With fewer than two tokens, `a` is 1.
 *
 * @throws NumericError naming the layers when an activation is NaN or infinite
 */
export async function collectExpertStatistics(
  stage: Stage,
  present: BlockStream,
  options: StatisticsOptions = {},
): Promise<InputStatistics> {
  const { own, pool, fourthPowers } = await sumExpert(stage, present, options)
  return namingLayers(present.block, stage, async () => {
    const pooled = pool.hessian()
    if (own === undefined) return { hessian: pooled, tokens: 0, pooled: 1 }
    return { tokens: own.tokens, ...shrink(own.hessian(), pooled, own.tokens, fourthPowers) }
  })
}

/** Sums the inputs that the layers of one expert share. @throws as {@link collectExpertStatistics} */
export async function sumExpert(
  stage: Stage,
  { block, stream }: BlockStream,
  { onBatch, signal }: StatisticsOptions = {},
): Promise<ExpertSums> {
  const { length } = stream
  const total = tokensOf(stream)
  let own: HessianAccumulator | undefined
  let pool: HessianAccumulator | undefined
  let fourthPowers = 0
  await namingLayers(block, stage, () =>
    withLinears(block, stage.uses, () =>
      forEachBatch(
        stream,
        signal,
        (batch) => {
          visitStored(block, stage, batch, length, (input) => {
            own ??= new HessianAccumulator(input.cols)
            own.add(input)
            fourthPowers += sumOfFourthPowers(input)
          })
          const cols = stage.linears[0].cols
          const rows = batch.sequences * length
          const sample = sampledTokens(rows, total, POOLED_TOKENS_PER_INPUT * cols)
          const everyone = { ...batch, state: routedTo(batch.state, stage.expert!, sample) }
          visitStored(block, stage, everyone, length, (input) => {
            pool ??= new HessianAccumulator(input.cols)
            pool.add(input)
          })
        },
        { fields: stage.reads, onBatch },
      ),
    ),
  )
  return { own, pool: pool!, fourthPowers }
}

/**
 * Shrinks the Hessian of few tokens towards that of many.
 *
 * @param own `(2 / tokens) X^T X`
 * @param pool the same of other tokens
 * @param fourthPowers the sum over the tokens of `|x|^4`
 */
export function shrink(
  own: Matrix,
  pool: Matrix,
  tokens: number,
  fourthPowers: number,
): { hessian: Matrix; pooled: number } {
  let ownSquares = 0
  let distance = 0
  for (let i = 0; i < own.data.length; i++) {
    ownSquares += (own.data[i] / 2) ** 2
    distance += ((own.data[i] - pool.data[i]) / 2) ** 2
  }
  const error =
    tokens < 2 ? Number.POSITIVE_INFINITY : (fourthPowers - tokens * ownSquares) / (tokens * (tokens - 1))
  const pooled = Math.min(1, Math.max(0, distance > 0 ? error / distance : 0))
  return { hessian: mixHessians(own, pool, pooled), pooled }
}

/** `(1 - share) own + share pool` */
export function mixHessians(own: Matrix, pool: Matrix, share: number): Matrix {
  const data = own.data.map((value, i) => (1 - share) * value + share * pool.data[i])
  return matrix(own.rows, own.cols, data)
}

function sumOfFourthPowers({ rows, cols, data }: Matrix): number {
  let sum = 0
  for (let row = 0; row < rows; row++) {
    let square = 0
    for (let at = row * cols; at < (row + 1) * cols; at++) square += data[at] ** 2
    sum += square * square
  }
  return sum
}

/** Rows of a batch, evenly spread, so that all batches together give about `wanted`. */
function sampledTokens(rows: number, total: number, wanted: number): Int32Array {
  const step = Math.max(1, total / wanted)
  return Int32Array.from({ length: Math.ceil(rows / step) }, (_, i) => Math.floor(i * step))
}

/** The same state as if these tokens had been routed to an expert. */
function routedTo(state: StoredState, expert: number, rows: Int32Array): StoredState {
  const routes = state.routes!
  const tokens = routes.tokens.map((own, index) => (index === expert ? rows : own))
  return { ...state, gated: undefined, routes: { ...routes, tokens } }
}
