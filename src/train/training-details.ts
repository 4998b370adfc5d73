import { requireFields } from '../common/check-option.js'
import type { RunDetails } from '../pipeline/reports/run-details.js'
import type { TrainingCurve, TrainingLoss } from './loop/report.js'
import type { TrainModelReport } from './train-model.js'

/** What is drawn of a loss that is a mixture. */
const TERMS = {
  divergence: ['KL divergence', 'KL divergence (nats per token)'],
  crossEntropy: ['Cross entropy', 'cross entropy (nats per token)'],
  hidden: ['Hidden states', 'squared distance, share of their size'],
} as const satisfies Partial<Record<keyof TrainingLoss, readonly [title: string, measure: string]>>

/** The curves and the text of a run of `trainModel`, for `writeReport`. */
export function trainingDetails(report: Pick<TrainModelReport, 'curve' | 'notes' | 'settings'>): RunDetails {
  requireFields(report, 'a report of trainModel', ['curve', 'settings'])
  const { curve, notes } = report
  const { training, heldOut, length } = curve.sequences
  const { step } = curve.points[curve.kept]
  return {
    calibration: { sequences: training + heldOut, length, notes },
    convergence: [
      picture(curve, 'loss', `Training: the weights of step ${step} were kept`, 'loss'),
      ...termsOf(curve).map((term) => picture(curve, term, TERMS[term][0], TERMS[term][1])),
    ],
  }
}

/** The terms that are measured, where there are several. */
function termsOf({ points }: TrainingCurve): (keyof typeof TERMS)[] {
  const counted = (Object.keys(TERMS) as (keyof typeof TERMS)[]).filter((term) =>
    points.some(({ heldOut }) => heldOut[term] > 0),
  )
  return counted.length > 1 ? counted : []
}

function picture({ points }: TrainingCurve, term: keyof TrainingLoss, title: string, measure: string) {
  const steps = points.map(({ step }) => step)
  const values = (of: 'training' | 'heldOut') => points.map((point) => point[of][term])
  return {
    ...{ title, measure, step: 'step' },
    curves: [
      { name: 'training text', steps, values: values('training') },
      { name: 'held-out text', steps, values: values('heldOut') },
    ],
  }
}
