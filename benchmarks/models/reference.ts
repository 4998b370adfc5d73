/**
 * Holds this library against figures of the published reference code on the embedded model, under its protocol: same
 * calibration sequences, same evaluation windows, same layers and Hessians.
 *
 * `npm run bench:reference -- FOLDER [--json] [--only ROW] [--layers] [--markdown FILE]`, where FOLDER has `reference/`
 * (figures, layers, calibration offsets) and `data/` (texts). With `--layers` no whole models, only single layers.
 * `--markdown` writes these to the page's section `single-layers`.
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import {
  bitsPerValue,
  dequantizeLayer,
  dequantizeScalar,
  type Matrix,
  packLayer,
  quantizeGptq,
  quantizeLayer,
  quantizeRtn,
  reconstructionError,
  type VqOptions,
} from 'gptvq'
import {
  cutWindows,
  openModel,
  type QuantizationReport,
  type QuantizedLayer,
  type QuantizeModelOptions,
  quantizeModel,
  scoreModels,
  startEngine,
  withQuantizedLayers,
} from 'gptvq/model'
import { formatTable } from '../../src/cli/terminal/table.js'
import {
  calibrationSequences,
  evaluationTokens,
  referenceLayer,
  referenceRows,
} from '../common/reference-data.js'
import { tableOfCells, writeSection } from '../common/report.js'

/** The rows of the reference that have a counterpart here, and its settings. */
type RunOptions = VqOptions & Pick<QuantizeModelOptions, 'method'>

const runs: { row: string; options: RunOptions }[] = [
  ...[2, 3, 4].flatMap((bits) => [
    { row: `rtn ${bits}`, options: { method: 'rtn', bits } as const },
    { row: `gptq ${bits}`, options: { method: 'gptq', bits } as const },
  ]),
  { row: 'gptvq 1d 2.125', options: { vectorDim: 1, bits: 2, bpv: 2.125 } },
  { row: 'gptvq 2d 2.125', options: { vectorDim: 2, bits: 2, bpv: 2.125 } },
  { row: 'gptvq 2d 2.25', options: { vectorDim: 2, bits: 2, bpv: 2.25 } },
  { row: 'gptvq 2d 2.125 scales32', options: { vectorDim: 2, bits: 2, bpv: 2.1875, scaleBlockSize: 32 } },
  { row: 'gptvq 2d 3.125', options: { vectorDim: 2, bits: 3, bpv: 3.125 } },
  { row: 'gptvq 4d 2.25 (10 EM iterations)', options: { vectorDim: 4, bits: 2, bpv: 2.25 } },
]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean' },
    only: { type: 'string' },
    layers: { type: 'boolean' },
    markdown: { type: 'string' },
  },
})
const folder = positionals[0]
if (folder === undefined) {
  console.error('usage: npm run bench:reference -- FOLDER [--json] [--only ROW] [--layers] [--markdown FILE]')
  process.exit(2)
}
const model = fileURLToPath(new URL('../../examples/models/tiny-llama', import.meta.url))
const reference = await referenceRows(folder)
const rowOf = (name: string) => reference.find((row) => row.name === name)!
const chosen = runs.filter(({ row }) => values.only === undefined || row.startsWith(values.only))

await startEngine('auto')
const models = values.layers ? [] : await compareModels()
const layers = await compareLayers()
if (values.markdown !== undefined) await writeSection(values.markdown, 'single-layers', layerMarkdown())
if (values.json) console.log(JSON.stringify({ models, layers }, null, 2))
else {
  if (models.length > 0)
    console.log(
      formatTable(modelTable(), [
        'left',
        'right',
        'right',
        'right',
        'right',
        'right',
        'right',
        'right',
        'right',
      ]),
    )
  console.log(`\n${formatTable(layerTable(), ['left', 'left', 'right', 'right', 'right', 'right'])}`)
}

async function compareModels() {
  const full = await openModel(model)
  const sequences = await calibrationSequences(folder, full, model)
  const reports: QuantizationReport[] = []
  const candidates = []
  for (const { row, options } of chosen) {
    const quantized = new Map<string, QuantizedLayer>()
    const calibration = options.method === 'rtn' ? {} : { calibration: { sequences } }
    const onLayer = (name: string, layer: QuantizedLayer) => quantized.set(name, layer)
    reports.push(await quantizeModel({ model, ...calibration, ...options, onLayer }))
    candidates.push({ source: withQuantizedLayers(full.source, quantized), config: full.config })
    console.error(`quantized: ${row} (${reports.at(-1)!.seconds.total.toFixed(1)} s)`)
  }
  const text = await evaluationTokens(folder, full, model)
  const { candidates: scores } = await scoreModels({
    reference: full,
    candidates,
    windows: cutWindows(text, 256, 200),
  })
  await full.close()
  return chosen.map(({ row, options }, i) => {
    const errors = reports[i].layers.map(({ relativeError }) => relativeError ?? Number.NaN)
    return {
      row,
      seed: options.seed ?? 0,
      bitsPerValue: reports[i].bitsPerValue,
      seconds: reports[i].seconds.total,
      meanLayerError: errors.reduce((sum, error) => sum + error, 0) / errors.length,
      perplexity: scores[i].perplexity,
      klDivergence: scores[i].klDivergence!,
      top1Agreement: scores[i].top1Agreement!,
    }
  })
}

/** The layers that come with their Hessians: relative error on calibration and on held-out activations. */
async function compareLayers() {
  const results = []
  for (const { row, options } of chosen.filter(({ options }) => !options.seed)) {
    for (const [name, figures] of Object.entries(rowOf(row).layers)) {
      const { weight, hessian, heldOut } = await referenceLayer(folder, name)
      const { values, bits } = await quantize(weight, hessian, options)
      results.push({
        row,
        layer: name,
        bitsPerValue: bits,
        error: reconstructionError(weight, values, hessian).relative,
        referenceError: figures.error,
        heldOutError: reconstructionError(weight, values, heldOut).relative,
        referenceHeldOutError: figures.heldout,
      })
    }
  }
  return results
}

async function quantize(weight: Matrix, hessian: Matrix, options: RunOptions) {
  const { method = 'gptvq', bits = 2, ...rest } = options
  if (method === 'gptvq') {
    const layer = await quantizeLayer(weight, hessian, { bits, ...rest })
    return { values: dequantizeLayer(layer), bits: bitsPerValue(packLayer(layer)).total }
  }
  const layer =
    method === 'rtn' ? quantizeRtn(weight, { bits }) : await quantizeGptq(weight, hessian, { bits })
  return { values: dequantizeScalar(layer), bits: bits + (16 + bits) / 128 }
}

function modelTable(): string[][] {
  const header = [
    'setting',
    'bits',
    'KL',
    'reference',
    'ratio',
    'perplexity',
    'reference',
    'layer error',
    'ratio',
  ]
  return [
    header,
    [],
    ...models.map((result) => {
      const figures = rowOf(result.row)
      return [
        result.seed ? `${result.row}, seed ${result.seed}` : result.row,
        result.bitsPerValue.toFixed(4),
        result.klDivergence.toFixed(5),
        figures.kl.toFixed(5),
        (result.klDivergence / figures.kl).toFixed(3),
        result.perplexity.toFixed(2),
        figures.ppl.toFixed(2),
        Number.isNaN(result.meanLayerError) ? '-' : result.meanLayerError.toFixed(5),
        Number.isNaN(result.meanLayerError)
          ? '-'
          : (result.meanLayerError / figures.mean_layer_error).toFixed(3),
      ]
    }),
  ]
}

function layerTable(): string[][] {
  const header = ['setting', 'layer', 'bits', 'error', 'to reference', 'held out, to reference']
  return [
    header,
    [],
    ...layers.map((result) => [
      result.row,
      result.layer,
      result.bitsPerValue.toFixed(4),
      result.error.toFixed(5),
      (result.error / result.referenceError).toFixed(3),
      (result.heldOutError / result.referenceHeldOutError).toFixed(3),
    ]),
  ]
}

/** The layers with vector quantization, one column per setting: error to the reference's (in brackets held out). */
function layerMarkdown(): string {
  const vq = layers.filter(({ row }) => row.startsWith('gptvq'))
  const settings = [...new Set(vq.map(({ row }) => row))]
  const cell = (layer: string, row: string) => {
    const found = vq.find((result) => result.layer === layer && result.row === row)!
    const ratio = (error: number, of: number) => (error / of).toFixed(3)
    return `${ratio(found.error, found.referenceError)} (${ratio(found.heldOutError, found.referenceHeldOutError)})`
  }
  const rows = [...new Set(vq.map(({ layer }) => layer))].map((layer) => [
    `\`${layer}\``,
    ...settings.map((row) => cell(layer, row)),
  ])
  return tableOfCells(['layer', ...settings.map((row) => row.replace('gptvq ', ''))], rows, 1)
}
