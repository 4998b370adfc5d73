import { assertFinite, type Matrix, matrix } from '../../../common/matrix.js'
import { kernels } from '../../../kernels/kernels.js'
import type { Block } from '../../../model/decoder/block.js'
import type {
  AttentionOperands,
  AttentionPart,
  HessianGroup,
  Stage,
} from '../../../model/decoder/block-state.js'
import type { AttentionDescription, LinearDescription } from '../../../model/decoder/description.js'
import { runningOps } from '../../../model/ops/running.js'

/**
 * What the tokens count in a layer's Hessian. `attention`: for the layers of keys and values, as much as attention looks at
 * them. `equal`: all the same, as published.
 */
export type TokenWeighting = 'attention' | 'equal'

export const tokenWeightings: readonly TokenWeighting[] = ['attention', 'equal']

/** What each token counts in a Hessian; undefined: all the same. */
export type TokenWeights = Float32Array | undefined

/** Queries of a sequence and head that weights are found from at least. */
const FEWEST_QUERIES = 128
/** Consecutive queries whose scores are computed at once. */
const QUERIES_PER_RUN = 32
/** What every token counts at least, as a share of the mean: on other text another one may be looked at. */
const LEAST_WEIGHT = 0.01

/** The layers of a stage by the Hessians they share. */
export function hessianGroups(stage: Stage, weighting: TokenWeighting): readonly HessianGroup[] {
  const { linears, groups } = stage
  return groups !== undefined && weighting === 'attention' ? groups : [{ linears, makes: [] }]
}

/** Whether attention says what the tokens of a stage count. */
export function weighsTokens({ operands }: Stage, weighting: TokenWeighting): boolean {
  return operands !== undefined && weighting === 'attention'
}

/** The layers that must be in memory for what the layers of a stage read, and what its tokens count. */
export function neededFor(stage: Stage, weighting: TokenWeighting): readonly LinearDescription[] {
  if (weighsTokens(stage, weighting)) return stage.uses
  return stage.uses.filter((linear) => !stage.linears.includes(linear))
}

/**
 * What the tokens count for the layers of each group of a stage. An error of a key or a value reaches the model as often as
 * its token is attended to. A trained model's heads give most of their attention to the first token where they have nothing
 * to say; it is one of thousands in `X^T X`, and half of what `v_proj` gives to the model. With the shares `P` of attention,
 * summed over heads and queries `q`, a token `t` counts for values by `sum P_qt^2`, as an error of its value appears in the
 * output of attention `P_qt` times; for keys by `sum P_qt (1 - P_qt)`, the derivative of its share by its score. For queries,
 * and for layers that make no part of attention, all tokens count the same. A layer that makes several parts takes the mean
 * of their weights, each of mean 1.
 *
 * @param input what the layers of the stage read, (sequences * length) x in
 * @param length tokens of a sequence
 * @returns of each group; of any scale
 */
export function tokenWeights(
  block: Block,
  stage: Stage,
  groups: readonly HessianGroup[],
  input: Matrix,
  length: number,
): TokenWeights[] {
  const { operands } = stage
  if (operands === undefined || !groups.some(isWeighed)) return groups.map(() => undefined)
  const { attention } = block.description
  const ops = runningOps()
  const parts = ops.tidy(() => {
    const tokens = { sequences: input.rows / length, length, position: 0 }
    const run = { ops, block, stretches: [{ tokens, span: length }] }
    const { queries, keys } = operands(run, ops.upload(input.data, input.rows, input.cols))
    return attentionWeights({ queries: ops.read(queries), keys: ops.read(keys) }, attention, tokens)
  })
  for (const part of [parts.keys, parts.values]) {
    assertFinite(matrix(1, part.length, part), 'what attention gives to the tokens')
    setLeast(part)
  }
  return groups.map((group) => (isWeighed(group) ? meanOf(group.makes, parts) : undefined))
}

/** Tokens each times the root of its weight, so that products of two have the weight. @param room for the values */
export function weightTokens(
  tokens: Matrix,
  weights: TokenWeights,
  room: (size: number) => Float32Array,
): Matrix {
  if (weights === undefined) return tokens
  const { rows, cols, data } = tokens
  const values = room(rows * cols)
  for (let row = 0; row < rows; row++) {
    const factor = Math.sqrt(weights[row])
    for (let i = row * cols; i < (row + 1) * cols; i++) values[i] = factor * data[i]
  }
  return matrix(rows, cols, values)
}

function isWeighed({ makes }: HessianGroup): boolean {
  return makes.includes('keys') || makes.includes('values')
}

type PartWeights = Readonly<Record<Exclude<AttentionPart, 'queries'>, Float32Array>>

/**
 * What each token counts for keys and values, see {@link tokenWeights}.
 *
 * @param operands queries (tokens x heads * headDim) and keys (tokens x kvHeads * headDim), turned
 */
export function attentionWeights(
  operands: Pick<AttentionOperands<Float32Array>, 'queries' | 'keys'>,
  shape: AttentionDescription,
  { sequences, length }: { readonly sequences: number; readonly length: number },
): PartWeights {
  const weights = {
    keys: new Float32Array(sequences * length),
    values: new Float32Array(sequences * length),
  }
  const scores = new Float32Array(QUERIES_PER_RUN * length)
  const runs = Math.ceil(length / QUERIES_PER_RUN)
  const step = Math.max(1, Math.min(shape.heads, Math.floor(length / FEWEST_QUERIES)))
  for (let sequence = 0; sequence < sequences; sequence++) {
    const [keys, values] = [weights.keys, weights.values].map((all) =>
      all.subarray(sequence * length, (sequence + 1) * length),
    )
    for (let head = 0; head < shape.heads; head++) {
      // heads take turns, so that together they see all queries
      for (let run = head % step; run < runs; run += step) {
        const first = run * QUERIES_PER_RUN
        const last = Math.min(first + QUERIES_PER_RUN, length)
        writeScores(operands, shape, { start: sequence * length, head, first, last }, scores)
        for (let query = first; query < last; query++) {
          const row = scores.subarray((query - first) * last, (query - first) * last + query + 1)
          const from = shape.window === undefined ? 0 : Math.max(0, query + 1 - shape.window)
          addShares(row, from, shape.softCap, keys, values)
        }
      }
    }
  }
  return weights
}

/** Consecutive queries of a head. */
interface QueryRun {
  /** The row of the sequence's first token. */
  readonly start: number
  readonly head: number
  readonly first: number
  readonly last: number
}

/** Scores of a run's queries over the keys up to its last one, (last - first) x last. */
function writeScores(
  { queries, keys }: Pick<AttentionOperands<Float32Array>, 'queries' | 'keys'>,
  { heads, kvHeads, headDim, scale }: AttentionDescription,
  { start, head, first, last }: QueryRun,
  scores: Float32Array,
): void {
  const kvHead = Math.floor((head * kvHeads) / heads)
  const ofQueries = {
    data: queries,
    offset: ((start + first) * heads + head) * headDim,
    stride: heads * headDim,
  }
  const ofKeys = { data: keys, offset: (start * kvHeads + kvHead) * headDim, stride: kvHeads * headDim }
  const to = { data: scores, offset: 0, stride: last }
  kernels().gemm('ABt', last - first, last, headDim, scale, ofQueries, ofKeys, 0, to)
}

/** Adds what the shares of a query give to the weights of the tokens it sees. @param scores of these, from the first token on */
function addShares(
  scores: Float32Array,
  from: number,
  softCap: number | undefined,
  keys: Float32Array,
  values: Float32Array,
): void {
  let most = Number.NEGATIVE_INFINITY
  for (let i = from; i < scores.length; i++) {
    if (softCap !== undefined) scores[i] = softCap * Math.tanh(scores[i] / softCap)
    if (scores[i] > most) most = scores[i]
  }
  let total = 0
  for (let i = from; i < scores.length; i++) {
    const weight = Math.exp(scores[i] - most)
    scores[i] = weight
    total += weight
  }
  const unit = 1 / total
  for (let i = from; i < scores.length; i++) {
    const share = scores[i] * unit
    values[i] += share * share
    keys[i] += share * (1 - share)
  }
}

/** Every token counts something, so that no input looks as if it were never there. */
function setLeast(weights: Float32Array): void {
  const mean = meanWeight(weights)
  // each query looks at one token alone: no share can change
  if (mean === 0) weights.fill(1)
  else for (let i = 0; i < weights.length; i++) weights[i] += LEAST_WEIGHT * mean
}

function meanWeight(weights: Float32Array): number {
  return weights.reduce((sum, weight) => sum + weight, 0) / weights.length
}

function meanOf(makes: readonly AttentionPart[], parts: PartWeights): Float32Array {
  const { length } = parts.keys
  const mean = new Float32Array(length)
  for (const part of makes) {
    if (part === 'queries') {
      for (let i = 0; i < length; i++) mean[i] += 1 / makes.length
      continue
    }
    const own = parts[part]
    const unit = 1 / (makes.length * meanWeight(own))
    for (let i = 0; i < length; i++) mean[i] += own[i] * unit
  }
  return mean
}
