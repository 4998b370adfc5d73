import { applyLinear } from './activations.js'
import type { BlockRun, BlockState, Stage } from './block-state.js'
import type { BlockDescription, DenseFeedForward, FeedForwardDescription } from './description.js'
import { entranceOf, feedForwardLinears } from './linears.js'

/** A dense feed-forward part: the layers in front of its activation, then the down projection. */
export function denseStages(description: BlockDescription, feedForward: DenseFeedForward): Stage[] {
  const { norms, residualScale } = description
  const entrance = entranceOf(feedForward)
  const first: Stage = {
    linears: entrance,
    uses: entrance,
    input: feedForwardInput,
    advance: (run, state, input) => ({ ...state, gated: gatedBy(run, feedForward, input) }),
  }
  const last: Stage = {
    linears: [feedForward.down],
    uses: feedForwardLinears(feedForward),
    ...(norms.feedForwardOutput === undefined && { residualScale }),
    input: (run, state) => state.gated ?? gatedBy(run, feedForward, feedForwardInput(run, state)),
    advance: (run, { residual }, input) => ({
      residual: addFeedForward(run, residual, applyLinear(run, feedForward.down, input)),
    }),
  }
  return sharesInput(description) ? [last] : [first, last]
}

/** Whether attention and a dense feed-forward part read the same normed input. */
export function sharesInput(
  block: BlockDescription,
): block is BlockDescription & { feedForward: Exclude<FeedForwardDescription, { kind: 'routed' }> } {
  return block.parallel && block.norms.feedForwardInput === undefined && block.feedForward.kind !== 'routed'
}

/** What the feed-forward part of a block reads. */
export function feedForwardInput<T>({ ops, block }: BlockRun<T>, { residual, entering }: BlockState<T>): T {
  const { norms, description } = block
  const norm = sharesInput(description) ? norms.attentionInput : norms.feedForwardInput
  const input = entering ?? residual
  return norm ? ops.norm(input, norm) : input
}

/** The input of the down projection. */
export function gatedBy<T>(run: BlockRun<T>, feedForward: DenseFeedForward, input: T): T {
  const { ops } = run
  const { kind, activation } = feedForward
  if (kind === 'gated') {
    const gate = applyLinear(run, feedForward.gate, input)
    return ops.gate(gate, applyLinear(run, feedForward.up, input), activation)
  }
  if (kind === 'plain') return ops.activate(applyLinear(run, feedForward.up, input), activation)
  const both = applyLinear(run, feedForward.gateUp, input)
  const width = feedForward.gateUp.rows
  const half = width / 2
  return ops.gate(ops.columns(both, 0, half, width), ops.columns(both, half, half, width), activation)
}

/** The residual stream with what the feed-forward part gives. */
export function addFeedForward<T>({ ops, block }: BlockRun<T>, residual: T, part: T): T {
  const norm = block.norms.feedForwardOutput
  return ops.add(residual, norm ? ops.norm(part, norm) : part, block.description.residualScale)
}
