import { NumericError } from '../../errors.js'
import type { Pause } from '../../event-loop.js'
import { type Block, disposeBlock, openBlock } from '../../model/decoder/block.js'
import type { Head } from '../../model/decoder/head.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { meanDivergences } from '../../model/passes/divergences.js'
import { forwardBlocks, type PassModel, throughBlock } from '../../train/loop/passes.js'
import type { Variant } from './variants.js'

/** Sequences on their way through the full model. */
export interface Probe {
  /** What the block at hand reads, (sequences * length) x hiddenSize. */
  readonly states: Float32Array
  readonly length: number
  /** What the full model makes of them in the end. */
  readonly final: Float32Array
}

/** Tokens of all variants that run behind each other through the rest of the model. */
const TOKENS_AT_ONCE = 4096

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
  probe: Probe,
  head: Head,
  pause: Pause,
): Promise<{ of: number[]; output: Float32Array }> {
  const { config } = model
  const { states, length, final } = probe
  const size = states.length
  const run = (loaded: Block) => throughBlock(loaded, config, states, length, pause)
  const behind: PassModel = { ...model, config: { ...config, blocks: config.blocks.slice(index + 1) } }
  const divergences: number[] = []
  const together = Math.max(1, Math.floor((TOKENS_AT_ONCE * config.hiddenSize) / size))
  for (let first = 0; first < variants.length; first += together) {
    const some = variants.slice(first, first + together)
    const outputs = new Float32Array(some.length * size)
    for (const [i, variant] of some.entries()) {
      await naming([variant], async () => {
        const changed = await openBlock(withTrial(model.source, variant), config.blocks[index])
        try {
          outputs.set(await run(changed), i * size)
        } finally {
          disposeBlock(changed)
        }
      })
    }
    await naming(some, async () => {
      const ends = await forwardBlocks(behind, outputs, length, pause)
      const changed = some.map((_, i) => ends.subarray(i * size, (i + 1) * size))
      divergences.push(...(await meanDivergences(head, final, changed)))
    })
  }
  return { of: divergences, output: await run(block) }
}

/** The model with the trials of a variant in the place of the weights. */
function withTrial(source: WeightSource, { layers, trial }: Variant): WeightSource {
  const changed = new Map(
    layers.map(({ name, weight, trials }) => {
      const { change } = trials.trials[trial]
      return [name, weight.map((value, i) => value + change[i])] as const
    }),
  )
  return {
    shape: (name) => source.shape(name),
    floats: async (name) => changed.get(name) ?? source.floats(name),
    rows: (name, first, count) => source.rows(name, first, count),
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
