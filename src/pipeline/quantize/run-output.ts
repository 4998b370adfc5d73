import { createHash } from 'node:crypto'
import { AbortedError, GptvqError, OptionError } from '../../errors.js'
import type { StartedEngine } from '../../model/ops/engine.js'
import { requireDistinctFolders } from '../folders/distinct-folders.js'
import { createQuantizedOutput, type QuantizedOutput } from '../folders/output.js'
import { type Journal, openJournal } from '../resume/journal.js'
import type { PreparedRun } from './prepare-run.js'
import type { QuantizeModelOptions } from './quantize-model-options.js'
import { runRecord } from './run-record.js'

/** What a run writes. */
export interface RunOutput {
  readonly output: QuantizedOutput
  /** Undefined where an interrupted run leaves nothing. */
  readonly journal: Journal | undefined
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
  engine: StartedEngine | null,
  options: QuantizeModelOptions,
): Promise<RunOutput> {
  const { method } = settings
  await requireDistinctFolders(checkpoint.folder, folder)
  const run = await runRecord(checkpoint, options, engine, options.signal)
  const isKept = method !== 'rtn' && (options.unfinished ?? 'keep') === 'keep'
  const identity = { method, settings: stated, run, config: digestOf(checkpoint.configText) }
  const resume = options.resume ?? false
  const journal = isKept
    ? await openJournal(folder, identity, { resume, blocks: config.blocks.length })
    : undefined
  try {
    const replaced = new Set([...plan.linears, ...ends].map(({ name }) => name))
    const made = { method, stated, run }
    const output = await createQuantizedOutput(folder, checkpoint, replaced, made, {
      ...options,
      partial: journal?.partial,
    })
    return { output, journal }
  } catch (error) {
    throw await leave(undefined, journal, error)
  }
}

/** Refuses resuming where nothing would be written. @throws OptionError */
export function requireResumable({ output, resume, unfinished, method }: QuantizeModelOptions): void {
  if (!resume) return
  const found =
    output === undefined
      ? 'no output is'
      : unfinished === 'discard'
        ? "unfinished 'discard' is"
        : method === 'rtn' && "method 'rtn' is"
  if (!found) return
  throw new OptionError(
    'resume',
    `goes on with what an interrupted run has kept, and ${found} given; leave it out`,
  )
}

/**
 * Removes what is temporary after a failure, but for work that another run can go on with.
 *
 * @returns the error to throw, which says where that is
 */
export async function leave(
  output: QuantizedOutput | undefined,
  journal: Journal | undefined,
  error: unknown,
): Promise<unknown> {
  await output?.discard()
  if (journal === undefined) return error
  if (!journal.hasWork()) {
    await journal.remove()
    return error
  }
  const kept = `kept for --resume (option resume): ${await journal.keep()}`
  if (error instanceof AbortedError) return new AbortedError(`${error.message}; ${kept}`, error.reason)
  if (error instanceof GptvqError) error.message = `${error.message}. What was done is ${kept}`
  return error
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
