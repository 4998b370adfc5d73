import type { Pause } from '../../common/event-loop.js'
import { matrix } from '../../common/matrix.js'
import { HessianAccumulator } from '../../hessian/hessian.js'
import type { Block } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { throughBlock } from '../../train/loop/passes.js'
import {
  hessianGroups,
  type TokenWeighting,
  tokenWeights,
  weighsTokens,
  weightTokens,
} from '../calibrate/statistics/token-weights.js'

/** Sums over what layers read, by the kind of the first that has them; missing where no token reached it. */
export type GroupInputs = Map<string, HessianAccumulator>

/**
 * Runs sequences through a block.
 *
 * @param states what the block reads, (sequences * length) x hiddenSize
 * @returns sums over what its layers read, and the block's output, of the shape of `states`
 */
export async function stageInputs(
  block: Block,
  config: DecoderDescription,
  states: Float32Array,
  { length, weighting }: { readonly length: number; readonly weighting: TokenWeighting },
  pause: Pause,
): Promise<{ inputs: GroupInputs; output: Float32Array }> {
  const inputs: GroupInputs = new Map()
  const output = await throughBlock(block, config, states, length, pause, {
    onInput(stage, seen) {
      const groups = hessianGroups(stage, weighting)
      // finding weights takes memory of the engine, which may move what is there
      const input = weighsTokens(stage, weighting)
        ? matrix(seen.rows, seen.cols, seen.data.slice(0, seen.rows * seen.cols))
        : seen
      const weights = tokenWeights(block, stage, groups, input, length)
      for (const [i, { linears }] of groups.entries()) {
        const { kind } = linears[0]
        const sum = inputs.get(kind) ?? new HessianAccumulator(input.cols)
        sum.add(weightTokens(input, weights[i], (size) => new Float32Array(size)))
        inputs.set(kind, sum)
      }
    },
  })
  return { inputs, output }
}
