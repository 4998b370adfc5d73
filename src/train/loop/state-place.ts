import { randomBytes } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { fileError } from '../../checkpoint/file-errors.js'
import { nodeFileSystem, writeNewFile } from '../../checkpoint/file-system.js'
import { createParents, removeEmpty } from '../../checkpoint/output/output-folder.js'
import { AbortedError, OptionError } from '../../common/errors.js'
import { liesIn } from '../../pipeline/folders/distinct-folders.js'
import { isThere, readRecord, stepOfState } from './state-record.js'

/**
 * Checks before any work that the state of a training can be written to a place.
 *
 * @param apart folders that it must not lie in, by what they are
 * @throws OptionError when it lies in one of them
 * @throws CheckpointError when something else is there, or it cannot be written to
 */
export async function requireStatePlace(
  path: string,
  apart: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  for (const [what, folder] of Object.entries(apart)) {
    if (folder === undefined || !(await liesIn(folder, path))) continue
    throw new OptionError(
      'checkpoint',
      `${path} lies in the folder of ${what}, ${folder}; choose a place outside`,
    )
  }
  try {
    if (await isThere(path)) await readRecord(path)
  } catch (error) {
    throw fileError(
      `cannot read the state of the training in ${path}, make it readable or choose another place (option checkpoint)`,
      error,
    )
  }
  try {
    await tryToWrite(resolve(path))
  } catch (error) {
    throw fileError(
      `cannot write the state of the training to ${path}, choose another place (option checkpoint)`,
      error,
    )
  }
}

/** Writes an empty file beside `target`, and leaves nothing of it. */
async function tryToWrite(target: string): Promise<void> {
  const trial = `${target}.partial-${randomBytes(4).toString('hex')}`
  const created = await createParents(nodeFileSystem, dirname(target))
  try {
    await writeNewFile(nodeFileSystem, trial, async () => {})
  } finally {
    await nodeFileSystem.rm(trial, { force: true })
    await removeEmpty(nodeFileSystem, created)
  }
}

/** Runs the part of a training in which the state at a place, if any, is its own; when stopped, the error names it. */
export async function orStateKept<T>(path: string | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const isStopped = error instanceof AbortedError && path !== undefined
    const step = isStopped ? await stepOfState(path) : undefined
    if (!isStopped || step === undefined) throw error
    throw new AbortedError(
      `${error.message}; the state of step ${step} is in ${path}, the same again goes on from it`,
      error.reason,
    )
  }
}
