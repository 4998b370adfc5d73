import { requireFields } from '../../common/check-option.js'
import { expertTokens } from '../../report/page/expert-tokens.js'
import type { ReportData } from '../../report/page/report-data.js'
import type { QuantizationReport } from '../quantize/report.js'

/** What a report can tell of the run that made a folder, beside what stands in the folder. */
export type RunDetails = Pick<ReportData, 'calibration' | 'experts' | 'seconds' | 'convergence'>

/** The calibration, the tokens of experts, times and tuning of a run of `quantizeModel`, for `writeReport`. */
export function runDetails(report: QuantizationReport): RunDetails {
  requireFields(report, 'a report of quantizeModel', ['seconds'])
  const { calibration, layers, seconds, tuning } = report
  const experts = expertTokens(layers)
  return {
    seconds,
    ...(calibration !== null && { calibration }),
    ...(experts !== undefined && { experts }),
    ...(tuning !== null && {
      convergence: [
        {
          title: 'Tuning of the codebooks',
          step: 'epoch',
          measure: 'KL divergence (nats per token)',
          curves: [
            { name: 'training text', values: tuning.epochs.map(({ training }) => training) },
            { name: 'held-out text', values: tuning.epochs.map(({ heldOut }) => heldOut) },
          ],
        },
      ],
    }),
  }
}
