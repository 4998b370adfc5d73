import { expect, it } from 'vitest'
import { convergencePlot } from '../../src/report/convergence-plot.js'
import type { TrainingLoss } from '../../src/train/loop/report.js'
import { trainingDetails } from '../../src/train/training-details.js'

const lossOf = (divergence: number, rest: Partial<TrainingLoss> = {}): TrainingLoss => ({
  ...{ loss: divergence, crossEntropy: 0, divergence, hidden: 0 },
  ...rest,
})

const reportOf = (rest: Partial<TrainingLoss>) => ({
  curve: {
    points: [
      { step: 0, training: lossOf(3, rest), heldOut: lossOf(4, rest), batches: null },
      { step: 16, training: lossOf(1, rest), heldOut: lossOf(2, rest), batches: lossOf(2, rest) },
      { step: 24, training: lossOf(0.5, rest), heldOut: lossOf(2.5, rest), batches: lossOf(1, rest) },
    ],
    kept: 1,
    sequences: { training: 10, heldOut: 2, length: 64 },
    tokensPerSecond: 1,
    stateBytes: { trainable: 1, frozen: 1 },
  },
  notes: ['a note'],
  settings: {},
})

it('tells of the text, and draws the losses at their steps', () => {
  const { calibration, convergence } = trainingDetails(reportOf({}))
  expect(calibration).toEqual({ sequences: 12, length: 64, notes: ['a note'] })
  expect(convergence).toHaveLength(1)
  const [{ curves, ...options }] = convergence!
  expect(options.title).toContain('step 16')
  expect(curves.map(({ steps }) => steps)).toEqual([
    [0, 16, 24],
    [0, 16, 24],
  ])
  expect(curves.map(({ values }) => values)).toEqual([
    [3, 1, 0.5],
    [4, 2, 2.5],
  ])
  expect(convergencePlot(curves, options)).toContain('held-out text from 4 to 2.5 at step 24')
})

it('draws the terms of a mixture each', () => {
  const { convergence } = trainingDetails(reportOf({ crossEntropy: 5, hidden: 0.25 }))
  expect(convergence!.map(({ title }) => title)).toEqual([
    expect.stringContaining('Training'),
    'KL divergence',
    'Cross entropy',
    'Hidden states',
  ])
  expect(convergence![3].curves.map(({ values }) => values)).toEqual([
    [0.25, 0.25, 0.25],
    [0.25, 0.25, 0.25],
  ])
})
