/**
 * What activation order is worth on layers of the embedded model, at equal bits per value with its stored order
 * counted, and with groups as in natural order, as if the layer before had absorbed it: `npx tsx benchmarks/column-order.ts`
 */
import {
  bitsPerValue,
  dequantizeLayer,
  packLayer,
  quantizeLayer,
  reconstructionError,
  type VqOptions,
} from 'gptvq'
import { formatTable } from '../src/cli/table.js'
import { type BenchmarkLayer, realLayers } from './real-layers.js'

const seeds = [0, 1, 2]
const layers = await realLayers(64, 4)
for (const bpv of [2.125, 2.25]) {
  for (const refinementRounds of [0, 2, 8]) await compare(bpv, refinementRounds)
}
process.exit(0)

async function compare(bpv: number, refinementRounds: number): Promise<void> {
  const header = ['layer', 'bits of the order', 'natural', 'activation', 'absorbed']
  const rows: { name: string; order: number; errors: Errors[] }[] = []
  for (const layer of layers) {
    const natural = await measure(layer, { bpv, refinementRounds })
    const activation = await measure(layer, { bpv, refinementRounds, columnOrder: 'activation' })
    const { groupSize } = natural
    const absorbed = await measure(layer, { groupSize, refinementRounds, columnOrder: 'activation' })
    rows.push({ name: layer.name, order: activation.order, errors: [natural, activation, absorbed] })
  }
  const show = ({ calibration, heldOut }: Errors) => `${calibration.toFixed(5)} (${heldOut.toFixed(5)})`
  const means = [0, 1, 2].map((i) => mean(rows.map(({ errors }) => errors[i])))
  const table = [
    header,
    [],
    ...rows.map(({ name, order, errors }) => [name, order.toFixed(4), ...errors.map(show)]),
    ['mean', '', ...means.map(show)],
  ]
  console.log(`\nat most ${bpv} bits per value, refinementRounds ${refinementRounds}: error (held out)`)
  console.log(formatTable(table, ['left', 'right', 'right', 'right', 'right']))
}

interface Errors {
  readonly calibration: number
  readonly heldOut: number
}

async function measure({ weight, hessian, heldOut }: BenchmarkLayer, options: VqOptions) {
  const runs: Errors[] = []
  let [order, groupSize] = [0, 0]
  for (const seed of seeds) {
    const layer = await quantizeLayer(weight, hessian, { ...options, seed })
    const values = dequantizeLayer(layer)
    order = bitsPerValue(packLayer(layer)).other
    groupSize = layer.layout.rowsPerGroup * layer.layout.columnsPerGroup
    runs.push({
      calibration: reconstructionError(weight, values, hessian).relative,
      heldOut: reconstructionError(weight, values, heldOut).relative,
    })
  }
  return { ...mean(runs), order, groupSize }
}

function mean(runs: readonly Errors[]): Errors {
  const over = (key: keyof Errors) => runs.reduce((sum, run) => sum + run[key], 0) / runs.length
  return { calibration: over('calibration'), heldOut: over('heldOut') }
}
