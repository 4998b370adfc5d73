/**
 * Embedding and head alone quantized, a row for each setting: bits, and divergence from the model in full precision. The
 * layers stay as they are; what the whole model would take with them at 2.125 bits stands beside it.
 *
 *     npm run bench:ends -- MODEL --calibration TEXT --text TEXT [--sequences 32] [--length 256] [--windows 20] [NAME ...]
 */
import { parseArgs } from 'node:util'
import type { DecoderDescription } from '../../src/model/decoder/description.js'
import { allLinearLayers } from '../../src/model/decoder/linears.js'
import {
  cutWindows,
  openModel,
  readTokens,
  scoreModels,
  startEngine,
  withQuantizedLayers,
} from '../../src/model.js'
import type { QuantizedLayer } from '../../src/packing/quantized-layer.js'
import { gatherCalibration } from '../../src/pipeline/calibrate/calibration.js'
import { collectHeadStatistics } from '../../src/pipeline/calibrate/statistics/head-statistics.js'
import { type EndTensor, type EndTensorOptions, endTensors } from '../../src/pipeline/quantize/end-tensors.js'
import { quantizeEndTensors } from '../../src/pipeline/quantize/quantize-ends.js'

/** Bits per value that the layers are taken to have. */
const LAYER_BITS = 2.125

/** @param as how a tied tensor is to be seen; default: as what it is */
type Setting = readonly [method: 'rtn' | 'gptvq', bits: 2 | 3 | 4 | 8, as?: EndTensor['use']]

const settings: Readonly<Record<string, Setting>> = {
  'RTN 8 bits': ['rtn', 8],
  'RTN 4 bits': ['rtn', 4],
  'GPTVQ 4 bits': ['gptvq', 4],
  'GPTVQ 3 bits': ['gptvq', 3],
  'GPTVQ 2 bits': ['gptvq', 2],
  'GPTVQ 3 bits, identity alone': ['gptvq', 3, 'embedding'],
  'GPTVQ 3 bits, Hessian of the head alone': ['gptvq', 3, 'head'],
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    calibration: { type: 'string' },
    text: { type: 'string' },
    sequences: { type: 'string', default: '32' },
    length: { type: 'string', default: '256' },
    windows: { type: 'string', default: '20' },
  },
})
const [folder, ...chosen] = positionals
if (folder === undefined || values.calibration === undefined || values.text === undefined) {
  throw new Error('usage: npm run bench:ends -- MODEL --calibration TEXT --text TEXT')
}

await startEngine('wasm')
const model = await openModel(folder)
const { source: weights, config } = model
const length = Number(values.length)
const asked = { calibration: values.calibration, sequences: Number(values.sequences), sequenceLength: length }
const calibration = await gatherCalibration(asked, folder, weights, config, () => {})
const pass = { weights, config, calibration, signal: undefined, onProgress: () => {} }
const head = await collectHeadStatistics(pass)
const rows: {
  name: string
  bytes: number
  tensors: number
  seconds: number
  layers: Map<string, QuantizedLayer>
}[] = []
for (const [name, [method, bits, as]] of Object.entries(settings)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue
  const row = { name, bytes: 0, tensors: 0, seconds: 0, layers: new Map<string, QuantizedLayer>() }
  const tensors = endTensors(config, optionsOf(config, method, bits)).map((end) => ({
    ...end,
    use: as ?? end.use,
  }))
  const task = {
    weights,
    tensors,
    seed: 0,
    headInputs: async () => head,
    signal: undefined,
    onProgress: () => {},
  }
  await quantizeEndTensors(task, async (tensor, layer, report) => {
    row.layers.set(tensor, layer)
    row.bytes += report.bytes
    row.tensors += report.rows * report.cols
    row.seconds += report.seconds
  })
  rows.push(row)
  console.error(`${name}: ${row.seconds.toFixed(0)} s`)
}
const tokens = await readTokens(values.text, folder, config)
const windows = cutWindows(tokens, length, Number(values.windows), config.firstToken)
const candidates = rows.map(({ layers }) => ({ source: withQuantizedLayers(weights, layers), config }))
const scores = await scoreModels({ reference: model, candidates, windows })
const linear = allLinearLayers(config).reduce((sum, { rows, cols }) => sum + rows * cols, 0)
console.log(`| setting | bits per value | whole model, layers at ${LAYER_BITS} | KL | top-1 | seconds |`)
for (const [i, { name, bytes, tensors, seconds }] of rows.entries()) {
  const { klDivergence, top1Agreement } = scores.candidates[i]
  const whole = (LAYER_BITS * linear + 8 * bytes) / (linear + tensors)
  const cells = [
    name,
    ((8 * bytes) / tensors).toFixed(3),
    whole.toFixed(2),
    klDivergence?.toPrecision(3),
    `${(100 * (top1Agreement ?? 0)).toFixed(1)} %`,
    seconds.toFixed(0),
  ]
  console.log(`| ${cells.join(' | ')} |`)
}
await model.close()

function optionsOf(
  { head, embedding }: DecoderDescription,
  method: Setting[0],
  bits: Setting[1],
): EndTensorOptions {
  const own = { embeddingBits: bits, embeddingMethod: method }
  return head.tensor === embedding.tensor ? own : { ...own, headBits: bits, headMethod: method }
}
