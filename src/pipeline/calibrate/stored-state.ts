import { ShapeError } from '../../common/errors.js'
import { type Matrix, matrix } from '../../common/matrix.js'
import type { Block } from '../../model/decoder/block.js'
import type { BlockRun, BlockState, Stage } from '../../model/decoder/block-state.js'
import { runStage } from '../../model/decoder/stages.js'
import type { Ops } from '../../model/ops/ops.js'
import { type Handle, runningOps } from '../../model/ops/running.js'

/** The state between two stages as ordinary arrays: all of it, or the fields that were asked for. */
export type StoredState = Partial<BlockState<Matrix>>

/** Tokens between two stages. */
export interface StoredTokens {
  readonly sequences: number
  readonly state: StoredState
}

/**
 * Runs a stage on stored tokens.
 *
 * @param keepsGated whether there is room for inputs of a down projection of so many columns; else they are dropped
 * @returns the state behind it, as far as it was given; what did not change is the same array as before
 */
export function runStored(
  block: Block,
  stage: Stage,
  tokens: StoredTokens,
  length: number,
  keepsGated: (cols: number) => boolean,
): StoredState {
  const ops = runningOps()
  return ops.tidy(() => {
    const { run, lifted, stored } = lift(ops, block, stage, tokens, length)
    const next = runStage(run, stage, lifted)
    const untouched = stage.reads ? withoutKeys(tokens.state, stage.reads) : {}
    const lower = (handle: Handle) => stored.get(handle) ?? copyOf(run, handle)
    const gated = next.gated && keepsGated(ops.shape(next.gated)[1]) ? next.gated : undefined
    return { ...untouched, ...mapState({ ...next, gated }, lower) }
  })
}

/** Shows what the layers of a stage read of stored tokens, and the state in front of it; not where it has nothing to do. */
export function visitStored(
  block: Block,
  stage: Stage,
  tokens: StoredTokens,
  length: number,
  onInput: (input: Matrix) => void,
): void {
  if (stage.skips?.(tokens.state as BlockState<Matrix>)) return
  const ops = runningOps()
  ops.tidy(() => {
    const { run, lifted } = lift(ops, block, stage, tokens, length)
    const input = stage.input(run, lifted)
    const [rows, cols] = ops.shape(input)
    onInput(matrix(rows, cols, ops.read(input)))
  })
}

/** What the layers of a stage read of stored tokens, for one that does not skip them, in an array of `room`. */
export function storedInput(
  block: Block,
  stage: Stage,
  tokens: StoredTokens,
  length: number,
  room: (size: number) => Float32Array,
): Matrix {
  const ops = runningOps()
  return ops.tidy(() => {
    const { run, lifted } = lift(ops, block, stage, tokens, length)
    const input = stage.input(run, lifted)
    const [rows, cols] = ops.shape(input)
    const values = room(rows * cols)
    values.set(ops.read(input).subarray(0, rows * cols))
    return matrix(rows, cols, values)
  })
}

/** What a stage reads of stored tokens in the engine's memory; to be called within a tidy, which frees it. */
function lift(
  ops: Ops<Handle>,
  block: Block,
  stage: Stage,
  { sequences, state }: StoredTokens,
  length: number,
) {
  if (state.residual && state.residual.rows !== sequences * length) {
    const needed = `${sequences} sequences of ${length} tokens need ${sequences * length} rows of hidden states`
    throw new ShapeError(`${needed}, found ${state.residual.rows}`)
  }
  const stored = new Map<Handle, Matrix>()
  const raise = (values: Matrix): Handle => {
    const handle = ops.upload(values.data, values.rows, values.cols)
    stored.set(handle, values)
    return handle
  }
  const read = stage.reads ? onlyKeys(state, stage.reads) : state
  // of a part of the state, the stage reads no more than that part
  const lifted = mapState(read, raise) as BlockState<Handle>
  const tokens = { sequences, length, position: 0 }
  const run: BlockRun<Handle> = { ops, block, stretches: [{ tokens, span: length }] }
  return { run, lifted, stored }
}

function copyOf({ ops }: BlockRun<Handle>, handle: Handle): Matrix {
  const [rows, cols] = ops.shape(handle)
  return matrix(rows, cols, ops.read(handle).slice(0, rows * cols))
}

function mapState<A, B>(
  { routes, ...fields }: Partial<BlockState<A>>,
  map: (value: A) => B,
): Partial<BlockState<B>> {
  const mapped = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => [name, map(value as A)])
  const moved = routes && { routes: { tokens: routes.tokens, weights: map(routes.weights) } }
  return { ...Object.fromEntries(mapped), ...moved }
}

function onlyKeys<T extends object>(record: T, keys: readonly (keyof T)[]): Partial<T> {
  return Object.fromEntries(
    Object.entries(record).filter(([key]) => keys.includes(key as keyof T)),
  ) as Partial<T>
}

function withoutKeys<T extends object>(record: T, keys: readonly (keyof T)[]): Partial<T> {
  return Object.fromEntries(
    Object.entries(record).filter(([key]) => !keys.includes(key as keyof T)),
  ) as Partial<T>
}
