/**
 * Estimates a run, does it, and prints both: `npx tsx benchmarks/models/estimate.ts MODEL --calibration TEXT [--sequences N]
 * [--sequence-length N] [--method gptvq] [--bpv 2.125]`. What else the machine does meanwhile counts in both.
 */
import { parseArgs } from 'node:util'
import { estimateModel, type QuantizationMethod, quantizeModel } from 'gptvq/model'
import { formatTable } from '../../src/cli/terminal/table.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    calibration: { type: 'string' },
    sequences: { type: 'string', default: '128' },
    'sequence-length': { type: 'string', default: '2048' },
    method: { type: 'string', default: 'gptvq' },
    bpv: { type: 'string' },
  },
})
const [model] = positionals
const { calibration, method, sequences, 'sequence-length': sequenceLength } = values
if (model === undefined || calibration === undefined) {
  throw new Error('usage: npx tsx benchmarks/models/estimate.ts MODEL --calibration TEXT')
}
const options = {
  model,
  calibration,
  method: method as QuantizationMethod,
  sequences: Number(sequences),
  sequenceLength: Number(sequenceLength),
  ...(values.bpv !== undefined && { bpv: Number(values.bpv) }),
}
const estimate = await estimateModel(options)
const { seconds, bitsPerValue } = await quantizeModel(options)
const peak = 1024 * process.resourceUsage().maxRSS
const row = (name: string, estimated: number, found: number) => [
  name,
  estimated.toPrecision(4),
  found.toPrecision(4),
  (estimated / found).toFixed(2),
]
console.log(
  formatTable(
    [
      ['', 'estimated', 'found', 'ratio'],
      row('calibration, s', estimate.seconds.calibration, seconds.calibration),
      ...(seconds.sensitivity > 0
        ? [row('sensitivity, s', estimate.seconds.sensitivity, seconds.sensitivity)]
        : []),
      row('quantization, s', estimate.seconds.quantization, seconds.quantization),
      row('all, s', estimate.seconds.total, seconds.total),
      row('peak memory, MB', estimate.memoryBytes / 1e6, peak / 1e6),
      row('bits per value', estimate.bitsPerValue, bitsPerValue),
    ],
    ['left', 'right', 'right', 'right'],
  ),
)
console.log(`measured in ${estimate.measuredSeconds.toFixed(1)} s`)
