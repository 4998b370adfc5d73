import type { Pause } from '../../event-loop.js'
import { HessianAccumulator } from '../../hessian.js'
import type { Block } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { throughBlock } from '../../train/loop/passes.js'

/**
 * Runs sequences through a block.
 *
 * @param states what the block reads, (sequences * length) x hiddenSize
 * @returns sums over what each stage reads, and the block's output, of the shape of `states`
 */
export async function stageInputs(
  block: Block,
  config: DecoderDescription,
  states: Float32Array,
  length: number,
  pause: Pause,
): Promise<{ inputs: Map<Stage, HessianAccumulator>; output: Float32Array }> {
  const inputs = new Map<Stage, HessianAccumulator>()
  const output = await throughBlock(block, config, states, length, pause, {
    onInput(stage, x) {
      const sum = inputs.get(stage) ?? new HessianAccumulator(x.cols)
      sum.add(x)
      inputs.set(stage, sum)
    },
  })
  return { inputs, output }
}
