import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { requirePositive } from '../../check-option.js'
import { OptionError } from '../../errors.js'
import { formatBytes } from '../../report/drawing/units.js'
import { batchInMemory, type PlaceBatch, TOKENS_PER_BATCH } from '../calibrate/calibration-stream.js'
import { type SpillFolder, spillBatch } from '../calibrate/spilled-batch.js'
import { peakMemory, stateWidth, streamsOf, sumOf } from '../estimate/peak-memory.js'
import type { PreparedRun } from './prepare-run.js'
import type { MemoryOptions } from './quantize-model-options.js'

/** Batches that are in work at a time: one of each stream, and the one that is read ahead. */
const BATCHES_IN_WORK = 3

/** Where the activations of a run go. */
export interface ActivationPlace {
  readonly place: PlaceBatch
  /** Removes what lies on the disk. */
  close(): Promise<void>
}

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

/** Opens the place of a run's activations. @param folder of the run's unfinished work; default: one of the system's */
export async function openActivations(
  resident: number,
  folder: string | undefined,
): Promise<ActivationPlace> {
  let spill: SpillFolder | undefined
  const openSpill = async (): Promise<SpillFolder> => {
    if (folder === undefined) return { path: await mkdtemp(join(tmpdir(), 'gptvq-spill-')), files: 0 }
    const path = join(folder, 'spill')
    await mkdir(path)
    return { path, files: 0 }
  }
  return {
    async place(index, sequences, state) {
      if (index < resident) return batchInMemory(sequences, state)
      spill ??= await openSpill()
      return spillBatch(spill, sequences, state)
    },
    async close() {
      if (spill) await rm(spill.path, { recursive: true, force: true })
    },
  }
}
