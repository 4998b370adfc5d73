import { quantizeFlags } from './flags.js'

const { out: _, report: __, force: ___, resume: ____, maxShardBytes: _____, ...flags } = quantizeFlags

/** Those of `quantize` that decide what a run takes. */
export const estimateFlags = flags
