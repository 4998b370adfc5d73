/**
 * A block of Llama-2-7B's shapes (random weights) through the phases of `quantizeModel` at the defaults, with the products of
 * this package and with those of the system's BLAS in turn, and what that makes of the whole model; the block's later stages
 * are calibrated behind layers that are plainly rounded:
 * `npm run bench:llama-block [-- --sequences 16] [-- --rows 256]`. Calibration is done as a whole and scaled to 16
 * sequences of 2048 tokens, as it grows with them. Of each layer `--rows` and half of them are quantized, and what the
 * others would take is told from the difference, since rows do not see each other; `--rows 0` quantizes all. Factors of
 * Hessians are made as a whole. Prints Markdown, and what `estimateModel` says of the same.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import { ownFactors, type SharedFactors, shareFactors } from '../../src/hessian/inverse-factor.js'
import { kernels, setThreads, threadCount } from '../../src/kernels/kernels.js'
import { type ProductsName, startProducts } from '../../src/kernels/native/start-products.js'
import { startEngine } from '../../src/model/ops/engine.js'
import type { InputStatistics } from '../../src/pipeline/calibrate/statistics/stage-sums.js'
import { estimateModel } from '../../src/pipeline/estimate/estimate-model.js'
import { type LayerRunner, quantizeHere } from '../../src/pipeline/quantize/layers/layer-work.js'
import { quantizePhases } from '../../src/pipeline/quantize/phases.js'
import { prepareRun } from '../../src/pipeline/quantize/prepare-run.js'
import { resolveMethod } from '../../src/pipeline/quantize/quantize-options.js'
import type { ModelSizes } from '../common/random-model.js'
import { randomSequences, writeRandomModel } from '../common/write-random-model.js'

const { values } = parseArgs({
  options: {
    sequences: { type: 'string', default: '16' },
    rows: { type: 'string', default: '256' },
    threads: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
})
const [sequences, rows] = [Number(values.sequences), Number(values.rows)]
if (values.threads !== undefined) setThreads(Number(values.threads))

const llama: ModelSizes = {
  ...{ name: 'one block', hidden: 4096, inner: 11008, heads: 32, kvHeads: 32, blocks: 1, words: 4096 },
}
const sizes = values.quick ? { ...llama, hidden: 128, inner: 344, heads: 4, kvHeads: 4 } : llama
const length = values.quick ? 128 : 2048
/** What is worked out: the calibration of the whole model, and how many blocks it has. */
const [SEQUENCES, BLOCKS] = [16, 32]

/** Processor and wall seconds since `start` was made. */
interface Spent {
  readonly cpu: number
  readonly wall: number
}
const startClock = () => {
  const [cpu, wall] = [process.cpuUsage(), performance.now()]
  return (): Spent => {
    const { user, system } = process.cpuUsage(cpu)
    return { cpu: 1e-6 * (user + system), wall: (performance.now() - wall) / 1000 }
  }
}
const plus = (a: Spent, b: Spent): Spent => ({ cpu: a.cpu + b.cpu, wall: a.wall + b.wall })
const minus = (a: Spent, b: Spent): Spent => ({ cpu: a.cpu - b.cpu, wall: a.wall - b.wall })
const times = ({ cpu, wall }: Spent, factor: number): Spent => ({ cpu: cpu * factor, wall: wall * factor })
const none: Spent = { cpu: 0, wall: 0 }

const folder = await mkdtemp(join(tmpdir(), 'gptvq-llama-block-'))
try {
  const model = join(folder, 'model')
  await writeRandomModel(model, sizes)
  await startEngine('wasm')
  const found = new Map<ProductsName, BlockPhases>()
  const estimates: string[] = []
  for (const products of ['blas', 'wasm'] as const) {
    const name = await startProducts(products)
    estimates.push(await estimateOf(model, products))
    console.error(`products ${name}, kernels ${kernels().name}, ${threadCount()} threads`)
    found.set(products, await phasesOf(model))
  }
  print(found.get('wasm')!, found.get('blas')!)
  for (const line of estimates) console.log(line)
} finally {
  await rm(folder, { recursive: true, force: true })
}

/** What `estimateModel` says of the same, on the clock. */
async function estimateOf(model: string, products: ProductsName): Promise<string> {
  const calibration = { sequences: randomSequences(sizes, SEQUENCES, length) }
  const { seconds } = await estimateModel({ model, calibration, products, engine: 'wasm' })
  const [calibrating, quantizing] = [seconds.calibration, seconds.quantization].map((s) => s.toPrecision(3))
  return `\nestimateModel, ${products}: calibration ${calibrating} s, quantization ${quantizing} s`
}

/** The phases of the block, scaled to all tokens and rows. */
interface BlockPhases {
  readonly phases: ReadonlyMap<string, Spent>
  /** What factors that are now shared would take, were they made for each layer. */
  readonly saved: Spent
}

async function phasesOf(model: string): Promise<BlockPhases> {
  const calibration = { sequences: randomSequences(sizes, sequences, length) }
  const prepared = await prepareRun({ model, calibration })
  const phases = new Map<string, Spent>()
  const add = (phase: string, spent: Spent) => phases.set(phase, plus(phases.get(phase) ?? none, spent))
  let inLayers = none
  let saved = none
  const known = new Map<SharedFactors, Map<string, Spent>>()
  let turn: Promise<unknown> = Promise.resolve()
  // one after the other, as they are without other machines
  const runLayer: LayerRunner = (work, watch) => {
    const done = turn.then(async () => {
      const clock = startClock()
      const shared = watch.factors ?? ownFactors
      const { result, factors, spent, made, asked } = await timedLayer(work, shared)
      const before = known.get(shared) ?? new Map<string, Spent>()
      for (const name of asked) if (!made.has(name)) saved = plus(saved, before.get(name) ?? none)
      known.set(shared, new Map([...before, ...made]))
      add('inverse factors', factors)
      const kind = work.name.replace(/^.*\.(\w+)_proj\.weight$/, '$1')
      add(`layer ${kind}`, spent)
      inLayers = plus(inLayers, clock())
      return result
    })
    turn = done
    return done
  }
  const clock = startClock()
  const own = { model, output: undefined, journal: undefined, onProgress: undefined, onLayer: undefined }
  const run = { ...prepared, ...own, activations: undefined, elapsed: () => clock().wall, signal: undefined }
  try {
    await quantizePhases({ ...run, runLayer }, { calibration })
  } finally {
    await prepared.checkpoint.close()
  }
  const rest = minus(clock(), inLayers)
  return { phases: new Map([['calibration', times(rest, SEQUENCES / sequences)], ...phases]), saved }
}

/** Quantizes some rows of a layer; the block goes on with all rows rounded quickly. */
async function timedLayer(work: Parameters<LayerRunner>[0], shared: SharedFactors) {
  let factors = none
  const made = new Map<string, Spent>()
  const asked = new Set<string>()
  const kept = shareFactors()
  const timed: SharedFactors = (name, make) => {
    asked.add(name)
    const clocked = async () => {
      const clock = startClock()
      const factor = await make()
      made.set(name, clock())
      factors = plus(factors, made.get(name)!)
      return factor
    }
    return kept(name, () => shared(name, clocked))
  }
  const all = work.weight.rows
  const count = rows === 0 ? all : Math.min(rows, all)
  const time = async (some: number) => {
    const part = { ...work, weight: firstRows(work.weight, some), inputs: statisticsOf(work.inputs!, some) }
    const [clock, before] = [startClock(), factors]
    const result = await quantizeHere(part, { factors: timed })
    return { result, spent: minus(clock(), minus(factors, before)) }
  }
  const { result, spent } = await time(count)
  if (count === all) return { result, factors, spent, made, asked }
  // what a layer takes once, however many rows it has, is not to be scaled
  const few = Math.floor(count / 2)
  const rest = times(minus(spent, (await time(few)).spent), (all - count) / (count - few))
  const rounded = { ...work, inputs: undefined, settings: resolveMethod('rtn', { bits: 4 }) }
  return { result: await quantizeHere(rounded, {}), factors, spent: plus(spent, rest), made, asked }
}

function firstRows({ cols, data }: Matrix, count: number): Matrix {
  return matrix(count, cols, data.subarray(0, count * cols))
}

function statisticsOf({ drift, ...inputs }: InputStatistics, count: number): InputStatistics {
  if (drift === undefined) return inputs
  const half = ({ residual, ...own }: (typeof drift)[number]) => ({
    ...own,
    ...(residual && { residual: firstRows(residual, count) }),
  })
  return { ...inputs, drift: [half(drift[0]), half(drift[1])] }
}

function print({ phases: wasm, saved }: BlockPhases, { phases: blas }: BlockPhases): void {
  const all = (phases: ReadonlyMap<string, Spent>) => [...phases.values()].reduce(plus, none)
  const shown = (seconds: number) => seconds.toPrecision(3)
  const row = (name: string, own: Spent, native: Spent) =>
    `| ${name} | ${shown(own.cpu)} | ${shown(native.cpu)} | ${(native.cpu / own.cpu).toFixed(2)} | ${shown(own.wall)} | ${shown(native.wall)} |`
  const measured = rows === 0 ? 'all rows' : `${rows} rows of each layer`
  console.log(`${sequences} x ${length} tokens and ${measured} measured, ${threadCount()} threads\n`)
  console.log('| phase | wasm, CPU s | blas, CPU s | blas / wasm | wasm, s | blas, s |')
  console.log('| ----- | ----------- | ----------- | ----------- | ------- | ------- |')
  for (const [phase, spent] of wasm) console.log(row(phase, spent, blas.get(phase)!))
  console.log(row('the block', all(wasm), all(blas)))
  console.log(row(`${BLOCKS} blocks`, times(all(wasm), BLOCKS), times(all(blas), BLOCKS)))
  const before = plus(all(wasm), saved)
  const share = (phases: ReadonlyMap<string, Spent>) => (all(phases).cpu / before.cpu).toFixed(2)
  console.log(
    `\nWith a factor for each layer, by wasm: ${shown(before.cpu)} CPU s for the block. ` +
      `Now ${share(wasm)} of that, with blas ${share(blas)}.`,
  )
}
