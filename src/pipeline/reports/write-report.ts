import { randomBytes } from 'node:crypto'
import { basename, dirname, join, resolve } from 'node:path'
import { type OptionNames, refuseUnknown, requirePath } from '../../check-option.js'
import { fileError, systemErrorCode } from '../../checkpoint/file-errors.js'
import { nodeFileSystem, writeAt, writeNewFile } from '../../checkpoint/file-system.js'
import { CheckpointError, orNothingWritten, throwIfAborted } from '../../errors.js'
import { turnOfEventLoop } from '../../event-loop.js'
import type { ReportData } from '../../report/report-data.js'
import { reportHtml } from '../../report/report-html.js'
import { partOf } from '../progress.js'
import { type ReportDataOptions, reportData } from './report-data.js'

/** What to report on, and where to. */
export interface WriteReportOptions extends ReportDataOptions {
  /** The HTML file to write. */
  output: string
  /** Replace a report that is already there. Default false. */
  force?: boolean
}

const optionNames: OptionNames<WriteReportOptions> = {
  model: true,
  reference: true,
  codebooks: true,
  run: true,
  output: true,
  force: true,
  onProgress: true,
  signal: true,
}

/** A report that was written. */
export interface WrittenReport {
  /** The HTML file. */
  readonly output: string
  /** Its size. */
  readonly bytes: number
  /** What it tells. */
  readonly data: ReportData
}

/** Share of the work that reading the layers takes, drawing the rest; for progress only. */
const READING_SHARE = 0.7

/** How every report begins: what `force` may replace. */
const SIGNATURE = '<!doctype html>'

/**
 * Writes the report of a quantized folder as one HTML file. It is written beside its place and moved there when whole.
 *
 * @throws CheckpointError when the folder cannot be reported on or the file cannot be written; what was there before is
 *   kept then. AbortedError when `signal` fires
 */
export async function writeReport(options: WriteReportOptions): Promise<WrittenReport> {
  refuseUnknown(options, optionNames)
  requirePath('model', options.model)
  requirePath('output', options.output)
  return orNothingWritten(() => writePage(options))
}

async function writePage(options: WriteReportOptions): Promise<WrittenReport> {
  const { output, force = false, onProgress, signal } = options
  const target = resolve(output)
  await requireReportPlace(output, force)
  const reading = partOf(onProgress, 0, READING_SHARE)
  const data = await reportData({ ...options, onProgress: ({ step, done }) => reading(step, done) })
  onProgress?.({ step: 'drawing', done: READING_SHARE })
  await turnOfEventLoop()
  const bytes = Buffer.from(reportHtml(data))
  throwIfAborted(signal)
  const partial = join(
    dirname(target),
    `.${basename(target).slice(0, 50)}.partial-${randomBytes(6).toString('hex')}`,
  )
  try {
    await nodeFileSystem.mkdir(dirname(target), { recursive: true })
    await writeNewFile(nodeFileSystem, partial, (handle) => writeAt(handle, bytes, 0))
    await requireReportPlace(output, force)
    await nodeFileSystem.rename(partial, target)
  } catch (error) {
    throw fileError(`cannot write ${output}, choose another output`, error)
  } finally {
    await nodeFileSystem.rm(partial, { force: true })
  }
  onProgress?.({ step: `writing ${output}`, done: 1 })
  return { output, bytes: bytes.length, data }
}

/**
 * Refuses a place that is taken, unless by a report that may be replaced.
 *
 * @throws CheckpointError
 */
export async function requireReportPlace(output: string, force: boolean): Promise<void> {
  const beginning = await beginningOf(resolve(output), output)
  if (beginning === undefined) return
  if (!force) {
    throw new CheckpointError(
      `${output}: exists. Choose another output, or replace it with --force (option force)`,
    )
  }
  if (beginning !== SIGNATURE) {
    throw new CheckpointError(
      `${output}: exists and does not look like a report, so --force (option force) does not replace it. ` +
        'Choose another output, or remove it yourself',
    )
  }
}

/** The first bytes of a file, undefined when there is none. */
async function beginningOf(target: string, output: string): Promise<string | undefined> {
  try {
    const handle = await nodeFileSystem.open(target, 'r')
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(SIGNATURE.length), 0, SIGNATURE.length, 0)
      return buffer.subarray(0, bytesRead).toString('latin1')
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined
    throw fileError(`cannot write ${output}, choose another output`, error)
  }
}
