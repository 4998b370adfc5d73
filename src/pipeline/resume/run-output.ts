import { createHash } from 'node:crypto'
import type { StartedEngine } from '../../model/ops/engine.js'
import { requireDistinctFolders } from '../folders/distinct-folders.js'
import { type ChangedTensors, createQuantizedOutput, type QuantizedOutput } from '../folders/output.js'
import type { PreparedRun } from '../quantize/prepare-run.js'
import type { QuantizeModelOptions } from '../quantize/quantize-model-options.js'
import { isCalibrated } from '../quantize/quantize-options.js'
import { runRecord } from '../quantize/run-record.js'
import { type Journal, openJournal } from './journal.js'
import { leave } from './leave-run.js'

/** What a run writes. */
export interface RunOutput {
  readonly output: QuantizedOutput
  /** Undefined where an interrupted run leaves nothing. */
  readonly journal: Journal | undefined
}

/** What the folder says of how it was made, beside settings. */
export interface RunMeans {
  readonly engine: StartedEngine | null
  readonly products: string
  /** Plain tensors that are not as in the checkpoint. */
  readonly changed: ChangedTensors
}

/**
 * Opens the output of a run, and what an interrupted one has left of it.
 *
 * @throws CheckpointError when there is such a run that was not asked for, or the place cannot be written to
 * @throws OptionError when it was begun with other options or inputs
 */
export async function openRunOutput(
  folder: string,
  { checkpoint, config, settings, plan, ends, stated }: PreparedRun,
  { engine, products, changed }: RunMeans,
  options: QuantizeModelOptions,
): Promise<RunOutput> {
  const { method } = settings
  await requireDistinctFolders(checkpoint.folder, folder)
  const run = await runRecord(checkpoint, options, { engine, products }, options.signal)
  const isKept = isCalibrated(settings) && (options.unfinished ?? 'keep') === 'keep'
  const identity = { method, settings: stated, run, config: digestOf(checkpoint.configText) }
  const resume = options.resume ?? false
  const journal = isKept
    ? await openJournal(folder, identity, { resume, blocks: config.blocks.length })
    : undefined
  try {
    const replaced = new Set([...plan.linears, ...ends].map(({ name }) => name))
    const made = { method, stated, run, changed }
    const output = await createQuantizedOutput(folder, checkpoint, replaced, made, {
      ...options,
      partial: journal?.partial,
    })
    return { output, journal }
  } catch (error) {
    throw await leave(undefined, journal, error)
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
