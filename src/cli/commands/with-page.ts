import { AbortedError } from '../../common/errors.js'
import { type OnProgress, partOf } from '../../pipeline/progress.js'
import type { RunDetails } from '../../pipeline/reports/run-details.js'
import type { CommandContext } from '../parse/command.js'

/** Share of the work that writing a report takes; for progress only. */
const REPORT_SHARE = 0.02

/** The page that is asked for on what a command makes. */
interface Page {
  /** The HTML file; undefined: none. */
  readonly page: string | undefined
  /** The model that was given. */
  readonly model: string
  /** The folder that is made. */
  readonly out: string
  readonly force: boolean | undefined
}

/**
 * Makes a quantized folder, and then writes the page on it that is asked for. That the page's place is taken is found out
 * before the work, not after it.
 */
export async function withPage<R>(
  { page, model, out, force }: Page,
  { onProgress, signal }: Pick<CommandContext, 'onProgress' | 'signal'>,
  work: (onProgress: OnProgress) => Promise<R>,
  detailsOf: (result: R) => RunDetails,
): Promise<R> {
  if (page === undefined) return work(onProgress)
  const { requireReportPlace, writeReport } = await import('../../pipeline/reports/write-report.js')
  await requireReportPlace(page, force ?? false)
  const result = await work(shareOf(onProgress, 0, 1 - REPORT_SHARE))
  const run = detailsOf(result)
  const drawing = shareOf(onProgress, 1 - REPORT_SHARE, 1)
  try {
    const pictures = { output: page, reference: model, run, onProgress: drawing }
    await writeReport({ model: out, ...pictures, ...(force && { force }), ...(signal && { signal }) })
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error
    throw new AbortedError(`stopped; ${out} is written, the report ${page} is not`, error.reason)
  }
  return result
}

function shareOf(onProgress: OnProgress, from: number, to: number): OnProgress {
  const part = partOf(onProgress, from, to)
  return ({ step, done }) => part(step, done)
}
