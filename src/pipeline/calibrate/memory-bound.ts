import { requirePositive } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import { formatBytes } from '../../report/drawing/units.js'
import { peakMemory, stateWidth, streamsOf, sumOf } from '../estimate/peak-memory.js'
import type { PreparedRun } from '../quantize/prepare-run.js'
import type { MemoryOptions } from '../quantize/quantize-model-options.js'
import { TOKENS_PER_BATCH } from './calibration-stream.js'

/** Batches of each stream that are in work at a time: one that is computed, one that is read and one that is written. */
const BATCHES_IN_WORK = 3

/**
 * How many batches of each stream have room in memory.
 *
 * @returns infinity where there is no bound
 * @throws OptionError when nothing would be left for activations, saying the least that is possible
 */
export function batchesInMemory(prepared: PreparedRun, { memory }: MemoryOptions): number {
  if (memory === undefined) return Number.POSITIVE_INFINITY
  requirePositive('memory', memory)
  const { settings } = prepared
  if (settings.method === 'gptvq' && settings.tuning.tuningEpochs > 0) {
    throw new OptionError(
      'memory',
      'tuning keeps all activations in memory; leave memory or tuningEpochs out',
    )
  }
  const least = leastMemory(prepared)
  if (memory < least) {
    throw new OptionError(
      'memory',
      `${formatBytes(memory)} is too little for this model with these settings: at least ${formatBytes(least)} are ` +
        'needed for a block, its Hessians and what is in work; raise memory',
    )
  }
  return Math.floor((memory - least) / bytesOfBatch(prepared))
}

/** Bytes of activations in memory at most, those in work among them. */
export function activationRoom(prepared: PreparedRun, options: MemoryOptions): number {
  return (batchesInMemory(prepared, options) + BATCHES_IN_WORK) * bytesOfBatch(prepared)
}

/** Bytes with which no activations but those in work are in memory. */
export function leastMemory(prepared: PreparedRun): number {
  return sumOf(peakMemory(prepared, 0)) + BATCHES_IN_WORK * bytesOfBatch(prepared)
}

/** Bytes of a batch of all streams between two stages at most. */
function bytesOfBatch({ config, settings }: PreparedRun): number {
  const { blocks, hiddenSize } = config
  const widest = Math.max(...blocks.map((block) => stateWidth(block, hiddenSize, Number.POSITIVE_INFINITY)))
  return 4 * TOKENS_PER_BATCH * widest * streamsOf(settings.order)
}
