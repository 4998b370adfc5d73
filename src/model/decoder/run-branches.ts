import { type Handle, runningOps } from '../ops/running.js'
import { type Block, withLinears } from './block.js'
import type { BlockRun, BlockState, Stage } from './block-state.js'
import { assertFiniteHidden, columnsOf, handlesOf } from './run-block.js'
import { blockStages, runStage } from './stages.js'

/** A block some of whose layers are others. */
export interface Branch {
  /** The kinds of these layers. */
  readonly kinds: readonly string[]
  /** @param finish gives the output of a block whose other layers are those of the block that it branches off */
  run(finish: (changed: Block) => Promise<Float32Array>): Promise<void>
}

/**
 * Runs a block and branches of it over `batch` sequences of `length` tokens. A branch begins at the stage of its layers, and
 * gives what all of it would, bit for bit.
 *
 * @param hidden (batch * length) x hiddenSize, row-major
 * @returns the block's output, of the same shape
 * @throws NumericError when an output holds NaN or infinity, naming the block and the position
 */
export async function runBranches(
  block: Block,
  hidden: Float32Array,
  batch: number,
  length: number,
  branches: readonly Branch[],
): Promise<Float32Array> {
  const ops = runningOps()
  const rows = batch * length
  const stretches = [{ tokens: { sequences: batch, length, position: 0 }, span: length }]
  const stages = blockStages(block.description)
  const free = (state: BlockState<Handle>, kept: ReadonlySet<Handle>) =>
    ops.free(...handlesOf(state).filter((handle) => !kept.has(handle)))

  const pass = async (
    of: Block,
    stage: Stage,
    state: BlockState<Handle>,
    kept: ReadonlySet<Handle>,
  ): Promise<BlockState<Handle>> => {
    const run: BlockRun<Handle> = { ops, block: of, stretches }
    const next = await withLinears(of, stage.uses, () => runStage(run, stage, state))
    free(state, new Set([...kept, ...handlesOf(next)]))
    return next
  }
  /** @param kept what others go on from */
  const finish = async (of: Block, first: number, start: BlockState<Handle>, kept: ReadonlySet<Handle>) => {
    let state = start
    try {
      for (const stage of stages.slice(first)) state = await pass(of, stage, state, kept)
    } catch (error) {
      free(state, kept)
      throw error
    }
    const output = await ops.take(state.residual)
    assertFiniteHidden(output, block, length)
    return output
  }

  const firsts = branches.map(({ kinds }) =>
    stages.findIndex(({ uses }) => uses.some(({ kind }) => kinds.includes(kind))),
  )
  let state: BlockState<Handle> = { residual: ops.upload(hidden, rows, columnsOf(block, hidden, rows)) }
  const none: ReadonlySet<Handle> = new Set()
  try {
    for (const [index, stage] of stages.entries()) {
      const kept = new Set(handlesOf(state))
      const own = branches.filter((_, i) => firsts[i] === index)
      for (const branch of own) await branch.run((changed) => finish(changed, index, state, kept))
      state = await pass(block, stage, state, none)
    }
  } catch (error) {
    free(state, none)
    throw error
  }
  return finish(block, stages.length, state, none)
}
