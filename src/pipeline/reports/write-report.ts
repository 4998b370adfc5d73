import { writeAt } from '../../checkpoint/file-system.js'
import { requireOutputPlace, writeOutputFile } from '../../checkpoint/output/output-file.js'
import { type OptionNames, refuseUnknown, requirePath } from '../../common/check-option.js'
import { orNothingWritten, throwIfAborted } from '../../common/errors.js'
import { turnOfEventLoop } from '../../common/event-loop.js'
import type { ReportData } from '../../report/page/report-data.js'
import { reportHtml } from '../../report/page/report-html.js'
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
  force: 'switch',
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
const REPORT_FILE = { signature: '<!doctype html>', kind: 'a report' } as const

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
  const { output, force = false, onProgress, ...told } = options
  const { signal } = told
  await requireReportPlace(output, force)
  const reading = partOf(onProgress, 0, READING_SHARE)
  const data = await reportData({ ...told, onProgress: ({ step, done }) => reading(step, done) })
  onProgress?.({ step: 'drawing', done: READING_SHARE })
  await turnOfEventLoop()
  const bytes = Buffer.from(reportHtml(data))
  throwIfAborted(signal)
  await writeOutputFile(output, { ...REPORT_FILE, force }, (handle) => writeAt(handle, bytes, 0))
  onProgress?.({ step: `writing ${output}`, done: 1 })
  return { output, bytes: bytes.length, data }
}

/**
 * Refuses a place that is taken, unless by a report that may be replaced.
 *
 * @throws CheckpointError
 */
export function requireReportPlace(output: string, force: boolean): Promise<void> {
  return requireOutputPlace(output, { ...REPORT_FILE, force })
}
