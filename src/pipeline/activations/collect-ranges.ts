import { findRange, type RangeSearch } from '../../activations/find-range.js'
import { type HistogramCounter, histogramCounter } from '../../activations/histogram.js'
import { NumericError } from '../../common/errors.js'
import { pacer } from '../../common/event-loop.js'
import { disposeBlock, openBlock } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { openEmbedding } from '../../model/decoder/embedding.js'
import { runBlock } from '../../model/decoder/run-block.js'
import type { OnActivations, WeightSource } from '../../model/decoder/weights.js'
import type { Calibration } from '../calibrate/calibration.js'
import type { ActivationSettings } from './options.js'

/** Tokens that go through a block at once. */
const BATCH_TOKENS = 2048
/** Bins of a histogram: those that AIMET's schemes have. */
const BINS = { minmax: 2, percentile: 2048, sqnr: 512 } as const satisfies Record<RangeSearch, number>

/** What is run, and on what. */
export interface ActivationPass {
  readonly source: WeightSource
  readonly config: DecoderDescription
  readonly calibration: Calibration
  readonly onProgress: (done: number) => void
  readonly signal: AbortSignal | undefined
  /** Is called behind each block, when all tokens went through it. */
  readonly onBlock?: (index: number) => Promise<void>
}

/** Counts activations as finding a static range takes. */
export function countActivations(search: RangeSearch): HistogramCounter {
  return histogramCounter(BINS[search])
}

/** Runs all calibration tokens through the blocks, whose activations are shown to a listener. */
export async function showActivations(
  { source, config, calibration, onProgress, signal, onBlock }: ActivationPass,
  onActivations: OnActivations,
): Promise<void> {
  const { sequences, length } = calibration
  const pause = pacer(signal)
  const embed = await openEmbedding(source, config)
  const width = length * config.hiddenSize
  const tokens = new Int32Array(sequences.length * length)
  for (const [i, sequence] of sequences.entries()) tokens.set(sequence, i * length)
  const hidden = await embed(tokens)
  const batch = Math.max(1, Math.floor(BATCH_TOKENS / length))
  for (const [index, description] of config.blocks.entries()) {
    const block = await openBlock(source, description, { onActivations })
    try {
      for (let first = 0; first < sequences.length; first += batch) {
        await pause()
        onProgress((index + first / sequences.length) / config.blocks.length)
        const count = Math.min(batch, sequences.length - first)
        const part = hidden.subarray(first * width, (first + count) * width)
        part.set(await runBlock(block, part, count, length))
      }
    } finally {
      disposeBlock(block)
    }
    await onBlock?.(index)
  }
}

/**
 * Static ranges of the activations of a model, whose own activations are not rounded meanwhile.
 *
 * @param layers names of the layers whose inputs are rounded
 * @throws NumericError for a layer that saw no token
 */
export async function collectRanges(
  pass: ActivationPass,
  layers: readonly string[],
  settings: ActivationSettings,
): Promise<Record<string, readonly [low: number, high: number]>> {
  const { activationBits, cacheBits, activationGrid, activationRange, activationPercentile } = settings
  const search = activationRange as RangeSearch
  const bitsOf = new Map<string, number>()
  if (activationBits !== undefined) for (const name of layers) bitsOf.set(name, activationBits)
  if (cacheBits !== undefined) {
    for (const { prefix } of pass.config.blocks) {
      for (const part of ['keys', 'values']) bitsOf.set(`${prefix}${part}`, cacheBits)
    }
  }
  const counters = new Map<string, HistogramCounter>()
  await showActivations(pass, ({ name }, values) => {
    if (!bitsOf.has(name)) return undefined
    if (!counters.has(name)) counters.set(name, countActivations(search))
    counters.get(name)!.add(values)
    return undefined
  })
  const symmetric = activationGrid === 'symmetric'
  return Object.fromEntries(
    Array.from(bitsOf, ([name, bits]) => {
      const histogram = counters.get(name)?.histogram()
      if (histogram === undefined) {
        throw new NumericError(
          `${name}: no calibration token reached it, so its activations have no range; give more calibration text, ` +
            "or choose activationRange 'token'",
        )
      }
      return [name, findRange(histogram, { bits, symmetric }, search, activationPercentile)]
    }),
  )
}
