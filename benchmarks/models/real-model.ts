/**
 * Methods on a model of real size: bits, divergence, perplexity, seconds and peak memory, a row for each setting. Every
 * setting runs in a process of its own; what is done is kept in `--json FILE` and not repeated. `--markdown FILE` writes the
 * rows into the page's section `real-model`.
 *
 *     npm run bench:real-model -- MODEL --calibration TEXT --text TEXT [--sequences 32] [--windows 20] [--products auto]
 *       [--json FILE] [--markdown FILE] [NAME ...]
 */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import {
  type Evaluation,
  evaluateModel,
  productsNames,
  type QuantizeModelOptions,
  quantizeModel,
} from '../../src/model.js'
import { replaceSection } from '../common/report.js'

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
  'GPTVQ 2-D 4 bits': { bits: 4 },
  'GPTVQ 2-D, 4.125 mixed': { bpv: 4.125 },
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
  /** Of quantizing alone, in bytes. */
  readonly peakMemory: number
  readonly scores: Evaluation
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

if (values.one !== undefined) console.log(JSON.stringify(await measure(values.one)))
else await measureAll()

async function measureAll(): Promise<void> {
  const rows: Record<string, Row> = await readFile(json, 'utf8').then(JSON.parse, () => ({}))
  for (const name of chosen.length > 0 ? chosen : Object.keys(settings)) {
    if (rows[name] === undefined) {
      const args = [
        ...process.execArgv,
        fileURLToPath(import.meta.url),
        ...process.argv.slice(2),
        '--one',
        name,
      ]
      const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 })
      rows[name] = JSON.parse(stdout)
      await mkdir(dirname(json), { recursive: true })
      await writeFile(json, JSON.stringify(rows, null, 2))
    }
    console.log(line(name, rows[name]))
  }
  if (values.markdown !== undefined) {
    const measured = Object.keys(settings).filter((name) => rows[name] !== undefined)
    const table = [...heads, ...measured.map((name) => line(name, rows[name]))].join('\n')
    await writeFile(
      values.markdown,
      replaceSection(await readFile(values.markdown, 'utf8'), 'real-model', table),
    )
  }
}

async function measure(name: string): Promise<Row> {
  const folder = await mkdtemp(join(tmpdir(), 'gptvq-real-model-'))
  try {
    const output = join(folder, 'quantized')
    const options = settings[name]
    const calibrated = options.method === 'rtn' ? {} : { calibration, sequences: Number(values.sequences) }
    const report = await quantizeModel({ model, output, engine: 'wasm', products, ...calibrated, ...options })
    const peakMemory = 1024 * process.resourceUsage().maxRSS
    const common = { reference: model, text: text!, context: 2048, windows: Number(values.windows) }
    const scores = await evaluateModel({ model: output, engine: 'wasm', products, ...common })
    const { bitsPerValue, wholeModel, seconds } = report
    return { bitsPerValue, wholeModel: wholeModel.bitsPerValue, seconds: seconds.total, peakMemory, scores }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function line(name: string, { bitsPerValue, wholeModel, seconds, peakMemory, scores }: Row): string {
  const { klDivergence, perplexity, top1Agreement, reference } = scores
  const cells = [
    name,
    bitsPerValue.toFixed(3),
    wholeModel.toFixed(3),
    klDivergence?.toPrecision(3),
    `${perplexity.toPrecision(4)} (${reference?.perplexity.toPrecision(4)})`,
    `${(100 * (top1Agreement ?? 0)).toFixed(1)} %`,
    seconds.toFixed(0),
    `${(peakMemory / 2 ** 30).toFixed(2)} GiB`,
  ]
  return `| ${cells.join(' | ')} |`
}
