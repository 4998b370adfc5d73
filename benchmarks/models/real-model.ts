/**
 * Methods on a model of real size: bits, divergence, perplexity, seconds and peak memory, a row for each setting. Every
 * setting runs in a process of its own, then all are scored beside one pass of the full model; what is done is kept in
 * `--json FILE`, quantized models that wait for their scores in `FILE.models`, and nothing is repeated. `--markdown FILE`
 * writes the rows into the page's section `real-model-SEQUENCES`.
 *
 *     npm run bench:real-model -- MODEL --calibration TEXT --text TEXT [--sequences 32] [--windows 20] [--products auto]
 *       [--json FILE] [--markdown FILE] [NAME ...]
 */
import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import {
  cutWindows,
  openModel,
  productsNames,
  type QuantizationReport,
  type QuantizeModelOptions,
  quantizeModel,
  readTokens,
  type Scores,
  scoreModels,
  startEngine,
  startProducts,
} from '../../src/model.js'
import { writeSection } from '../common/report.js'

const settings: Readonly<Record<string, Partial<QuantizeModelOptions>>> = {
  'RTN 2 bits': { method: 'rtn', bits: 2 },
  'GPTQ 2 bits': { method: 'gptq', bits: 2 },
  'GPTVQ 2-D 2 bits, plain codebooks': { bits: 2, trellisBits: 0 },
  'GPTVQ 2-D 2 bits': { bits: 2 },
  'GPTVQ 2-D, 2.125 mixed': { bpv: 2.125 },
  'RTN 3 bits': { method: 'rtn', bits: 3 },
  'GPTQ 3 bits': { method: 'gptq', bits: 3 },
  'GPTVQ 2-D 3 bits': { bits: 3 },
  'GPTVQ 2-D, 3.125 mixed': { bpv: 3.125 },
  'RTN 4 bits': { method: 'rtn', bits: 4 },
  'GPTQ 4 bits': { method: 'gptq', bits: 4 },
  'GPTVQ 2-D, 4.125 mixed': { bpv: 4.125, vectorDim: 2 },
  'GPTVQ 1-D 4 bits': { bits: 4 },
  'GPTVQ 1-D, 4.125 mixed': { bpv: 4.125 },
}

const heads = [
  '| setting | bits | whole model | KL | perplexity | top-1 | seconds | peak memory |',
  '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
]

/** What a setting came to. */
interface Row {
  readonly bitsPerValue: number
  readonly wholeModel: number
  readonly seconds: number
  /** Of the phases; rows measured before have none. */
  readonly phases?: QuantizationReport['seconds']
  /** Of quantizing alone, in bytes. */
  readonly peakMemory: number
  /** With those of the full model; undefined until it is scored. */
  readonly scores?: Scores & { readonly reference: Scores }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    calibration: { type: 'string' },
    text: { type: 'string' },
    sequences: { type: 'string', default: '32' },
    windows: { type: 'string', default: '20' },
    products: { type: 'string', default: 'wasm' },
    json: { type: 'string', default: 'out/real-model.json' },
    markdown: { type: 'string' },
    one: { type: 'string' },
  },
})
const [model, ...chosen] = positionals
const { calibration, text, json } = values
const products = productsNames.find((name) => name === values.products)
if (model === undefined || calibration === undefined || text === undefined || products === undefined) {
  throw new Error('usage: npm run bench:real-model -- MODEL --calibration TEXT --text TEXT [NAME ...]')
}

if (values.one !== undefined) console.log(JSON.stringify(await quantized(values.one)))
else await measureAll()

async function measureAll(): Promise<void> {
  const rows: Record<string, Row> = await readFile(json, 'utf8').then(JSON.parse, () => ({}))
  const names = chosen.length > 0 ? chosen : Object.keys(settings)
  await mkdir(dirname(json), { recursive: true })
  for (const name of names) {
    if (rows[name] !== undefined) continue
    const args = [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)]
    const { stdout } = await promisify(execFile)(process.execPath, [...args, '--one', name], {
      maxBuffer: 2 ** 24,
    })
    rows[name] = JSON.parse(stdout)
    await writeFile(json, JSON.stringify(rows, null, 2))
    console.log(`${name}: quantized`)
  }
  await score(
    rows,
    names.filter((name) => rows[name].scores === undefined),
  )
  for (const name of names) console.log(line(name, rows[name]))
  if (values.markdown !== undefined) {
    const measured = Object.keys(settings).filter((name) => rows[name]?.scores !== undefined)
    const table = [...heads, ...measured.map((name) => line(name, rows[name]))].join('\n')
    await writeSection(values.markdown, `real-model-${values.sequences}`, table)
  }
}

function outputOf(name: string): string {
  return join(`${json}.models`, name.replaceAll(/\W+/g, '-'))
}

async function quantized(name: string): Promise<Row> {
  const options = settings[name]
  const calibrated = options.method === 'rtn' ? {} : { calibration, sequences: Number(values.sequences) }
  const output = outputOf(name)
  await rm(output, { recursive: true, force: true })
  // a row that was stopped goes on
  const resume = options.method !== 'rtn'
  const means = { model: model!, output, engine: 'wasm', products, resume } as const
  const { bitsPerValue, wholeModel, seconds } = await quantizeModel({ ...means, ...calibrated, ...options })
  const peakMemory = 1024 * process.resourceUsage().maxRSS
  return {
    bitsPerValue,
    wholeModel: wholeModel.bitsPerValue,
    seconds: seconds.total,
    phases: seconds,
    peakMemory,
  }
}

/** Scores the models of these rows, which then go. */
async function score(rows: Record<string, Row>, names: readonly string[]): Promise<void> {
  if (names.length === 0) return
  await startEngine('wasm')
  await startProducts(products)
  const [full, ...opened] = await Promise.all(
    [model!, ...names.map(outputOf)].map((folder) => openModel(folder)),
  )
  const tokens = await readTokens(text!, model!, full.config)
  const windows = cutWindows(tokens, 2048, Number(values.windows), full.config.firstToken)
  const { reference, candidates } = await scoreModels({ reference: full, candidates: opened, windows })
  for (const [i, name] of names.entries()) {
    rows[name] = { ...rows[name], scores: { ...candidates[i], reference: reference! } }
  }
  await writeFile(json, JSON.stringify(rows, null, 2))
  for (const { close } of [full, ...opened]) await close()
  for (const name of names) await rm(outputOf(name), { recursive: true, force: true })
}

function line(name: string, { bitsPerValue, wholeModel, seconds, peakMemory, scores }: Row): string {
  const { klDivergence, perplexity, top1Agreement, reference } = scores!
  const cells = [
    name,
    bitsPerValue.toFixed(3),
    wholeModel.toFixed(3),
    klDivergence?.toPrecision(3),
    `${perplexity.toPrecision(4)} (${reference.perplexity.toPrecision(4)})`,
    `${(100 * (top1Agreement ?? 0)).toFixed(1)} %`,
    seconds.toFixed(0),
    `${(peakMemory / 2 ** 30).toFixed(2)} GiB`,
  ]
  return `| ${cells.join(' | ')} |`
}
