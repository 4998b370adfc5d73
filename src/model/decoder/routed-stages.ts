import { applyLinear } from './activations.js'
import { weightsOf } from './block.js'
import type { BlockRun, BlockState, Stage } from './block-state.js'
import { addFeedForward, feedForwardInput, gatedBy } from './dense-stages.js'
import type { BlockDescription, DenseFeedForward, RoutedFeedForward } from './description.js'
import { entranceOf, feedForwardLinears } from './linears.js'

/** A mixture of experts: the router, the shared expert, the others one after the other, and the sum of them all. */
export function routedStages(_: BlockDescription, feedForward: RoutedFeedForward): Stage[] {
  return [
    routerStage(feedForward),
    ...(feedForward.shared ? sharedStages(feedForward.shared) : []),
    ...feedForward.experts.flatMap((expert, index) => expertStages(expert, index)),
    {
      linears: [],
      uses: [],
      input: (_, { mixture }) => mixture!,
      advance: (run, { residual }, mixture) => ({ residual: addFeedForward(run, residual, mixture) }),
    },
  ]
}

function routerStage({ router, active, sumToOne }: RoutedFeedForward): Stage {
  return {
    linears: [],
    uses: [router],
    input: feedForwardInput,
    advance: ({ ops, block }, state, input) => ({
      ...state,
      expertInput: input,
      mixture: ops.scale(input, 0),
      routes: ops.route(ops.linear(input, weightsOf(block, router)), active, sumToOne),
    }),
  }
}

function sharedStages({ feedForward, gate }: NonNullable<RoutedFeedForward['shared']>): Stage[] {
  const entrance = entranceOf(feedForward)
  return [
    {
      linears: entrance,
      uses: entrance,
      input: (_, { expertInput }) => expertInput!,
      advance: (run, state, input) => ({ ...state, gated: gatedBy(run, feedForward, input) }),
    },
    {
      linears: [feedForward.down],
      uses: [...feedForwardLinears(feedForward), ...(gate ? [gate] : [])],
      input: (run, { gated, expertInput }) => gated ?? gatedBy(run, feedForward, expertInput!),
      advance: ({ ops, block }, { gated: _, ...state }, input) => {
        const output = applyLinear({ ops, block }, feedForward.down, input)
        const part = gate
          ? ops.gateRows(output, ops.linear(state.expertInput!, weightsOf(block, gate)))
          : output
        return { ...state, mixture: ops.add(state.mixture!, part, 1) }
      },
    },
  ]
}

function expertStages(expert: DenseFeedForward, index: number): Stage[] {
  const entrance = entranceOf(expert)
  const ownRows = <T>({ ops }: BlockRun<T>, { expertInput, routes }: BlockState<T>) =>
    ops.pick(expertInput!, routes!.tokens[index])
  const skips = ({ routes }: BlockState<unknown>) => routes!.tokens[index].length === 0
  return [
    {
      linears: entrance,
      uses: entrance,
      expert: index,
      reads: ['expertInput', 'routes', 'gated'],
      skips,
      input: ownRows,
      advance: (run, state, input) => ({ ...state, gated: gatedBy(run, expert, input) }),
    },
    {
      linears: [expert.down],
      uses: feedForwardLinears(expert),
      expert: index,
      reads: ['expertInput', 'routes', 'gated', 'mixture'],
      skips,
      input: (run, state) => state.gated ?? gatedBy(run, expert, ownRows(run, state)),
      advance: ({ ops, block }, { gated: _, ...state }, input) => ({
        ...state,
        mixture: ops.mix(
          state.mixture!,
          applyLinear({ ops, block }, expert.down, input),
          state.routes!,
          index,
        ),
      }),
    },
  ]
}
