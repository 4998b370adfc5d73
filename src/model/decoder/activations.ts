import { type Block, weightsOf } from './block.js'
import type { BlockRun } from './block-state.js'
import type { LinearDescription } from './description.js'
import type { ActivationPlace } from './weights.js'

/** What a layer gives for an input, after the block's listener was shown it. */
export function applyLinear<T>(
  run: Pick<BlockRun<T>, 'ops' | 'block'>,
  linear: LinearDescription,
  input: T,
): T {
  const seen = passActivations(run, { name: linear.module, width: linear.cols }, input)
  return run.ops.linear(seen, weightsOf(run.block, linear))
}

/** Activations as the block's listener has them. */
export function passActivations<T>(
  { ops, block }: { readonly ops: BlockRun<T>['ops']; readonly block: Block },
  place: ActivationPlace,
  x: T,
): T {
  const { onActivations } = block
  if (onActivations === undefined) return x
  const [rows, cols] = ops.shape(x)
  if (rows === 0) return x
  const changed = onActivations(place, ops.read(x).subarray(0, rows * cols))
  return changed === undefined ? x : ops.replace(x, changed, onActivations.limits?.(place))
}
