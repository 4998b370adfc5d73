import { NumericError } from '../../common/errors.js'
import type { Pause } from '../../common/event-loop.js'
import { type Block, forkBlock, reloadLinear } from '../../model/decoder/block.js'
import { runBranches } from '../../model/decoder/run-branches.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { releaseWeights } from '../../model/ops/running.js'
import type { Divergences } from '../../model/passes/divergences.js'
import { forwardBlocks, type PassModel } from '../../train/loop/passes.js'
import type { Variant } from './variants.js'

/** Sequences on their way through the full model. */
export interface Probe {
  /** What the block at hand reads, (sequences * length) x hiddenSize; few enough to run through it at once. */
  readonly states: Float32Array
  readonly length: number
  /** What the full model predicts of them in the end. */
  readonly predictions: Divergences
}

/** Tokens of all variants that run behind each other through the rest of the model. */
export const TOKENS_AT_ONCE = 4096

/**
 * The mean KL(full || variant) in nats per token, and what the full block makes of the probe.
 *
 * @param index of the block
 */
export async function divergencesOf(
  model: PassModel,
  index: number,
  block: Block,
  variants: readonly Variant[],
  { states, length, predictions }: Probe,
  pause: Pause,
): Promise<{ of: number[]; output: Float32Array }> {
  const { config, source } = model
  const size = states.length
  const behind: PassModel = { ...model, config: { ...config, blocks: config.blocks.slice(index + 1) } }
  const outputs: Float32Array[] = new Array(variants.length)
  const branches = variants.map((variant, i) => ({
    kinds: variant.layers.map(({ kind }) => kind),
    run: (finish: (changed: Block) => Promise<Float32Array>) =>
      naming([variant], async () => {
        await pause()
        await withTrial(block, source, variant, async (changed) => {
          outputs[i] = await finish(changed)
        })
      }),
  }))
  const output = await runBranches(block, states, size / config.hiddenSize / length, length, branches)
  const divergences: number[] = []
  const together = Math.max(1, Math.floor((TOKENS_AT_ONCE * config.hiddenSize) / size))
  for (let first = 0; first < variants.length; first += together) {
    const some = variants.slice(first, first + together)
    const entering = new Float32Array(some.length * size)
    for (const [i] of some.entries()) entering.set(outputs[first + i], i * size)
    await naming(some, async () => {
      const ends = await forwardBlocks(behind, entering, length, pause)
      const changed = some.map((_, i) => ends.subarray(i * size, (i + 1) * size))
      divergences.push(...(await predictions.of(changed)))
    })
  }
  return { of: divergences, output }
}

/** Runs `use` with the block in which the trials of a variant are in the place of the weights. */
async function withTrial(
  block: Block,
  source: WeightSource,
  { layers, trial }: Variant,
  use: (changed: Block) => Promise<void>,
): Promise<void> {
  const weights = new Map(
    layers.map(({ name, weight, trials }) => {
      const changed = trials.trials[trial].change.slice()
      for (let i = 0; i < changed.length; i++) changed[i] += weight[i]
      return [name, changed] as const
    }),
  )
  const changed = forkBlock(block, {
    ...source,
    floats: async (name) => weights.get(name) ?? source.floats(name),
  })
  try {
    for (const { kind } of layers) await reloadLinear(changed, kind)
    await use(changed)
  } finally {
    for (const { kind } of layers) {
      const own = changed.linears.get(kind)
      if (own) releaseWeights(own)
    }
  }
}

/** Has errors of numbers say which layers were changed. */
async function naming(variants: readonly Variant[], run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    if (!(error instanceof NumericError)) throw error
    const names = variants.flatMap(({ layers }) => layers.map(({ name }) => name.replace(/\.weight$/, '')))
    const some = names.length > 3 ? `one of ${names[0]} to ${names[names.length - 1]}` : names.join(' or ')
    throw new NumericError(`with ${some} quantized for trial, ${error.message}`)
  }
}
