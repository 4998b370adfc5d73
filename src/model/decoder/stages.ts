import { attentionStages } from './attention-stages.js'
import type { BlockRun, BlockState, Stage } from './block-state.js'
import { denseStages } from './dense-stages.js'
import type { BlockDescription } from './description.js'
import { routedStages } from './routed-stages.js'

const stagesOf = new WeakMap<BlockDescription, readonly Stage[]>()

/** The stages of a block, in the order of the forward pass. */
export function blockStages(block: BlockDescription): readonly Stage[] {
  const known = stagesOf.get(block)
  if (known !== undefined) return known
  const { feedForward } = block
  const stages = [
    ...attentionStages(block),
    ...(feedForward.kind === 'routed' ? routedStages(block, feedForward) : denseStages(block, feedForward)),
  ]
  stagesOf.set(block, stages)
  return stages
}

/**
 * Runs a stage; matrices it made on the way are freed.
 *
 * @param onInput is given the input of the stage's layers before anything is computed from it
 */
export function runStage<T>(
  run: BlockRun<T>,
  stage: Stage,
  state: BlockState<T>,
  onInput?: (input: T, state: BlockState<T>) => void,
): BlockState<T> {
  if (stage.skips?.(state)) return state
  return run.ops.tidy(() => {
    const input = stage.input(run, state)
    onInput?.(input, state)
    return stage.advance(run, state, input)
  })
}
