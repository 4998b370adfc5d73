import { closeSync, openSync, statSync, writeSync } from 'node:fs'
import type { OnProgress } from '../../pipeline/progress.js'
import { UsageError } from '../errors.js'
import { progressFields } from './progress-bar.js'

/** A file that a run tells what it does, an object a line, each with its time. */
export interface LogFile {
  readonly report: OnProgress
  /** One line. */
  add(fields: object): void
  close(): void
}

/** Who may read and write a log that is made: paths and texts of a run are its owner's. */
const OWNER_ALONE = 0o600

/** Writes nothing. */
const noLog: LogFile = { report: () => {}, add: () => {}, close: () => {} }

/**
 * Opens a log, behind what it holds already. A log that can be written no more, on a full disk say, is given up: the
 * work is worth more.
 *
 * @throws UsageError when the file cannot be opened, or is none
 */
export function openLog(path: string | undefined, now: () => number): LogFile {
  if (path === undefined) return noLog
  const file = openToAppend(path)
  let broken = false
  const add = (fields: object) => {
    if (broken) return
    try {
      writeSync(file, `${JSON.stringify({ time: new Date().toISOString(), ...fields })}\n`)
    } catch {
      broken = true
    }
  }
  return { report: progressFields(add, now).report, add, close: () => closeSync(file) }
}

function openToAppend(path: string): number {
  try {
    const found = statSync(path, { throwIfNoEntry: false })
    // to open a pipe is to wait for its reader, and nothing can stop that; a device such as /dev/null takes what comes
    if (found === undefined || found.isFile() || found.isCharacterDevice())
      return openSync(path, 'a', OWNER_ALONE)
    if (found.isDirectory()) throw new Error('it is a folder; expected a file')
    throw new Error('it is a pipe or the like; expected a file')
  } catch (cause) {
    throw new UsageError(
      `--log-file: ${path} cannot be written (${cause instanceof Error ? cause.message : cause})`,
    )
  }
}
