import { NumericError, ShapeError } from '../../common/errors.js'
import { firstNotFinite, type Matrix, matrix } from '../../common/matrix.js'
import type { KeyValueCache } from '../ops/ops.js'
import { type Handle, runningOps } from '../ops/running.js'
import { type Block, withLinears } from './block.js'
import { type BlockRun, type BlockState, rowsOf, type Stage, type Stretch } from './block-state.js'
import { blockStages, runStage } from './stages.js'

/**
 * Is given the input of each group of linear layers during a forward pass, tokens x inFeatures; of the layers of an
 * expert only its tokens. Its values may be overwritten afterwards.
 */
export type InputListener = (stage: Stage, input: Matrix) => void

/** Where the tokens of a pass stand. */
export interface PassPlace {
  /** Keys and values of the positions before; those of this pass are added. */
  readonly cache?: KeyValueCache
  readonly onInput?: InputListener
}

/**
 * Runs a block over `batch` sequences of `length` tokens.
 *
 * @param hidden (batch * length) x hiddenSize, row-major
 * @returns the block's output, of the same shape
 * @throws NumericError when the output holds NaN or infinity, naming the block and the position
 */
export async function runBlock(
  block: Block,
  hidden: Float32Array,
  batch: number,
  length: number,
  { cache, onInput }: PassPlace = {},
): Promise<Float32Array> {
  const tokens = { sequences: batch, length, position: cache?.positions ?? 0 }
  return runStretches(block, hidden, [{ tokens, cache, span: cache?.capacity ?? length }], onInput)
}

/**
 * Runs a block over several stretches of tokens at once, each after what its own cache holds.
 *
 * @param hidden rows of all stretches, one behind the other, x hiddenSize
 * @returns the block's output, of the same shape
 * @throws NumericError when the output holds NaN or infinity, naming the block and the position
 */
export async function runStretches(
  block: Block,
  hidden: Float32Array,
  stretches: readonly Stretch[],
  onInput?: InputListener,
): Promise<Float32Array> {
  const ops = runningOps()
  const rows = stretches.reduce((sum, stretch) => sum + rowsOf(stretch), 0)
  const cols = columnsOf(block, hidden, rows)
  const run: BlockRun<Handle> = { ops, block, stretches }
  let state: BlockState<Handle> = { residual: ops.upload(hidden, rows, cols) }
  try {
    for (const stage of blockStages(block.description)) {
      state = await passStage(run, stage, state, onInput)
    }
  } catch (error) {
    freeState(run, state)
    throw error
  }
  const output = await ops.take(state.residual)
  let first = 0
  for (const stretch of stretches) {
    const end = first + rowsOf(stretch)
    const { length, position } = stretch.tokens
    assertFiniteHidden(output.subarray(first * cols, end * cols), block, length, position)
    first = end
  }
  return output
}

async function passStage(
  run: BlockRun<Handle>,
  stage: Stage,
  state: BlockState<Handle>,
  onInput: InputListener | undefined,
): Promise<BlockState<Handle>> {
  const show =
    onInput && stage.linears.length > 0 ? (input: Handle) => onInput(stage, matrixOf(run, input)) : undefined
  const next = await withLinears(run.block, stage.uses, () => runStage(run, stage, state, show))
  const kept = new Set(handlesOf(next))
  run.ops.free(...handlesOf(state).filter((handle) => !kept.has(handle)))
  return next
}

/** The values of a handle as a matrix. */
export function matrixOf({ ops }: Pick<BlockRun<Handle>, 'ops'>, handle: Handle): Matrix {
  const [rows, cols] = ops.shape(handle)
  return matrix(rows, cols, ops.read(handle))
}

/** The handles of a state, each once. */
export function handlesOf<T>({ routes, ...fields }: BlockState<T>): T[] {
  return [...new Set([...Object.values(fields), routes?.weights])].filter((field) => field !== undefined)
}

function freeState({ ops }: BlockRun<Handle>, state: BlockState<Handle>): void {
  ops.free(...handlesOf(state))
}

/** Throws ShapeError when `hidden` is not tokens x hiddenSize. @returns hiddenSize */
export function columnsOf({ description }: Block, hidden: Float32Array, tokens: number): number {
  const hiddenSize = description.attention.output.rows
  if (hidden.length === tokens * hiddenSize) return hiddenSize
  throw new ShapeError(
    `block ${description.index}: ${tokens} tokens need ${tokens * hiddenSize} hidden values, found ${hidden.length}`,
  )
}

/** Throws NumericError when a block's output is not finite. */
export function assertFiniteHidden(
  hidden: Float32Array,
  { description }: Block,
  length: number,
  position = 0,
): void {
  const at = firstNotFinite(hidden)
  if (at < 0) return
  const token = Math.floor(at / description.attention.output.rows)
  throw new NumericError(
    `block ${description.index}: its output is ${hidden[at]} in sequence ${Math.floor(token / length)} of the batch, ` +
      `position ${position + (token % length)}; expected finite numbers. The activations overflow float32: the weights ` +
      'are damaged, or the config.json is of another model',
  )
}
