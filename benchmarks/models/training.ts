/**
 * What training a quantized model end to end gains: KL divergence and perplexity on text that neither calibration nor
 * training has seen, before and after, with the speed of training and the memory that it counts.
 *
 * `npm run bench:training -- FOLDER [--json FILE] [--only WORD] [--sequences N] [--length N] [--epochs N] [--windows N]
 * [--measure-every STEPS] [--seed N] [--products blas]`, where a WORD that is the whole name of a row means it alone, and
 * FOLDER has `data/` (texts: training on `calibration/wiki.txt`, the result on `wikitext2-test.txt`). Each row is written to
 * the JSON file as soon as it is measured, and rows that the file has are not measured again.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  evaluateModel,
  type ProductsName,
  type QuantizeModelOptions,
  quantizeModel,
  startProducts,
} from 'gptvq/model'
import { type DistillModelOptions, distillModel, type TrainModelOptions, trainModel } from 'gptvq/train'
import { describe, environment } from '../common/environment.js'
import { modelFolder as model } from '../common/real-layers.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string', default: 'out/training.json' },
    only: { type: 'string', default: '' },
    sequences: { type: 'string', default: '144' },
    length: { type: 'string', default: '64' },
    epochs: { type: 'string', default: '1' },
    windows: { type: 'string', default: '16' },
    'measure-every': { type: 'string' },
    seed: { type: 'string', default: '0' },
    products: { type: 'string', default: 'wasm' },
  },
})
const folder = positionals[0]
if (folder === undefined) {
  console.error('usage: npm run bench:training -- FOLDER [--json FILE] [--only WORD] [--sequences N] ...')
  process.exit(2)
}

/** One row of the table; `start` names the row whose folder it starts from, `of` that whose folder is quantized. */
interface Row {
  readonly name: string
  readonly start?: string
  readonly of?: string
  readonly quantize?: Partial<QuantizeModelOptions>
  readonly train?: Partial<TrainModelOptions> & Pick<TrainModelOptions, 'method'>
  readonly distill?: Partial<DistillModelOptions>
}

/** So high a rate pays at the end, once it has fallen; what is measured before may lie above the start. */
const qat = { method: 'qat', learningRate: 0.02 } as const
const half = { batch: 4, keepBlocks: [0, 3] } as const

const rows: readonly Row[] = [
  ...[2, 3, 4].flatMap((bits): Row[] => [
    { name: `gptq ${bits}`, quantize: { method: 'gptq', bits, groupSize: 128 } },
    { name: `qat ${bits}`, start: `gptq ${bits}`, train: qat },
    { name: `qat ${bits}, default rate`, start: `gptq ${bits}`, train: { method: 'qat' } },
  ]),
  { name: 'lr-qat 2', start: 'gptq 2', train: { method: 'lr-qat', frozenBits: 8 } },
  { name: 'qat 2, cross entropy', start: 'gptq 2', train: { ...qat, distillation: 0 } },
  { name: 'trellis 2', quantize: { bits: 2 } },
  { name: 'trellis 2, scales', start: 'trellis 2', train: { method: 'codebooks' } },
  { name: 'plain 2', quantize: { bits: 2, trellisBits: 0 } },
  { name: 'plain 2, codebooks', start: 'plain 2', train: { method: 'codebooks' } },
  { name: 'plain 2, indices', start: 'plain 2', train: { method: 'codebooks', indexRate: 0.2 } },
  {
    name: 'student, cut',
    distill: { ...half, learningRate: 1e-9, epochs: 1, sequences: 18, measureEvery: 9 },
  },
  { name: 'student, cross entropy', distill: { ...half, distillation: 0 } },
  { name: 'student, distilled', distill: half },
  { name: 'student, distilled, hidden states', distill: { ...half, hiddenWeight: 1 } },
  { name: 'student, distilled, 2 bits', of: 'student, distilled', quantize: { bits: 2 } },
]

/** What the file keeps of a row. */
interface Measured {
  readonly kl: number
  readonly perplexity: number
  readonly bitsPerValue?: number
  readonly heldOut?: readonly number[]
  /** Loss on the held-out sequences by step. */
  readonly curve?: readonly (readonly [step: number, loss: number])[]
  readonly tokensPerSecond?: number
  readonly stateBytes?: { readonly trainable: number; readonly frozen: number }
  readonly seconds: number
}

interface Measurements {
  readonly environment: string
  readonly settings: Readonly<Record<string, string>>
  readonly rows: Record<string, Measured>
}

const { sequences, length, epochs, windows, seed, 'measure-every': measureEvery } = values
const products = values.products as ProductsName
const known: Measurements = existsSync(values.json)
  ? (JSON.parse(await readFile(values.json, 'utf8')) as Measurements)
  : { environment: describe(environment()), settings: { sequences, length, epochs, windows, seed }, rows: {} }
await mkdir(dirname(values.json), { recursive: true })
const place = join(dirname(values.json), 'training-models')
const folderOf = (name: string) => join(place, name.replaceAll(/[^a-z0-9]+/g, '-'))
const named = rows.filter(({ name }) => name === values.only)
for (const row of named.length > 0 ? named : rows.filter(({ name }) => name.includes(values.only))) {
  if (known.rows[row.name]) continue
  console.error(row.name)
  known.rows[row.name] = await measure(row)
  await writeFile(values.json, `${JSON.stringify(known, null, 1)}\n`)
}
console.log(table())
if (measureEvery !== undefined) console.log(curves())

async function measure(row: Row): Promise<Measured> {
  await startProducts(products)
  const started = performance.now()
  const output = folderOf(row.name)
  const made = await make(row, output)
  const seconds = (performance.now() - started) / 1000
  const text = join(folder, 'data/wikitext2-test.txt')
  const scores = await evaluateModel({
    ...{ model: output, reference: model, text, context: 256, windows: Number(windows), products },
  })
  return { kl: scores.klDivergence!, perplexity: scores.perplexity, ...made, seconds }
}

async function make(row: Row, output: string): Promise<Partial<Measured>> {
  const text = join(folder, 'data/calibration/wiki.txt')
  const read = { sequences: Number(sequences), sequenceLength: Number(length) }
  const common = { output, force: true, engine: 'wasm', ...read } as const
  if (row.quantize) {
    await rm(output, { recursive: true, force: true })
    const whole = row.of === undefined ? model : folderOf(row.of)
    const options = { model: whole, calibration: text, products, ...common, ...row.quantize }
    const { bitsPerValue } = await quantizeModel(options)
    return { bitsPerValue }
  }
  const often = measureEvery === undefined ? {} : { measureEvery: Number(measureEvery) }
  const loop = { text, heldOut: 1 / 9, epochs: Number(epochs), seed: Number(seed), ...often, ...common }
  if (row.train) {
    const start = folderOf(row.start!)
    const { curve, bitsPerValue } = await trainModel({ model, start, ...loop, ...row.train })
    return { bitsPerValue, ...ofCurve(curve) }
  }
  const { curve } = await distillModel({ teacher: model, ...loop, ...row.distill })
  return ofCurve(curve)
}

function ofCurve(curve: Awaited<ReturnType<typeof trainModel>>['curve']): Partial<Measured> {
  const heldOut = [0, curve.kept].map((at) => curve.points[at].heldOut.loss)
  const { tokensPerSecond, stateBytes } = curve
  const points = curve.points.map(({ step, heldOut: { loss } }) => [step, loss] as const)
  return { heldOut, curve: points, tokensPerSecond, stateBytes }
}

function table(): string {
  const head = ['row', 'bits', 'KL', 'perplexity', 'held out', 'tokens/s', 'trained state, MB']
  const body = rows.flatMap(({ name }) => {
    const found = known.rows[name]
    if (found === undefined) return []
    const { kl, perplexity, bitsPerValue, heldOut, tokensPerSecond, stateBytes } = found
    const cells = [
      name,
      bitsPerValue?.toFixed(3) ?? '-',
      kl.toFixed(4),
      perplexity.toFixed(1),
      heldOut?.map((loss) => loss.toFixed(4)).join(' → ') ?? '-',
      tokensPerSecond?.toFixed(0) ?? '-',
      stateBytes ? (stateBytes.trainable / 1e6).toFixed(1) : '-',
    ]
    return [cells]
  })
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...body.map(line), '', known.environment].join('\n')
}

/** The loss on the held-out sequences, in steps. */
function curves(): string {
  return rows
    .flatMap(({ name }) => {
      const curve = known.rows[name]?.curve
      return curve
        ? [`${name}: ${curve.map(([step, loss]) => `${step}: ${loss.toFixed(4)}`).join(', ')}`]
        : []
    })
    .join('\n')
}
