import type { QuantizeModelOptions } from '../../pipeline/quantize/quantize-model.js'

/** Flags of a run that may be interrupted or outgrow the memory. */
export const longRunFlags = {
  resume: {
    kind: 'switch',
    help: 'go on with what an interrupted run of the same flags has kept, or begin where there is nothing; the same bytes',
  },
  memory: {
    kind: 'bytes',
    help: 'memory of the process at most, e.g. 8GB: calibration activations beyond it lie on the disk; the same bytes',
    default: 'all in memory',
  },
  unfinished: {
    kind: 'choice',
    choices: ['keep', 'discard'] satisfies readonly QuantizeModelOptions['unfinished'][],
    help: 'what an interrupted run leaves beside --out: finished blocks and activations, for --resume, or nothing',
    default: 'keep',
  },
} as const
