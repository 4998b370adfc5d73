import { closeSync, openSync, writeSync } from 'node:fs'
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
 * @throws UsageError when the file cannot be opened
 */
export function openLog(path: string | undefined, now: () => number): LogFile {
  if (path === undefined) return noLog
  let file: number
  try {
    file = openSync(path, 'a', OWNER_ALONE)
  } catch (cause) {
    throw new UsageError(
      `--log-file: ${path} cannot be written (${cause instanceof Error ? cause.message : cause})`,
    )
  }
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
