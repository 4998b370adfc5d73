/**
 * The same work on each engine, in turn: `npx tsx benchmarks/models/engines.ts [MODEL --calibration TEXT --text TEXT]
 * [--sequences 48] [--sequence-length 256] [--rounds 3] [--evaluation]`, by default on the embedded model. Calibration and
 * evaluation run the model forward, tuning takes gradients; with `--evaluation` that alone. The engine `tensorflow` is left
 * out where it does not start (`.ci/tensorflow` installs it), products by BLAS where there is none.
 */
import { parseArgs } from 'node:util'
import {
  type EngineName,
  evaluateModel,
  type ProductsName,
  quantizeModel,
  startEngine,
  startProducts,
} from 'gptvq/model'
import { formatTable } from '../../src/cli/terminal/table.js'
import { describe, environment } from '../common/environment.js'
import { medianOf, secondsOf } from '../common/harness.js'
import { modelFolder } from '../common/real-layers.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    calibration: { type: 'string', default: `${modelFolder}/texts/calibration.txt` },
    text: { type: 'string', default: `${modelFolder}/texts/evaluation.txt` },
    sequences: { type: 'string', default: '48' },
    'sequence-length': { type: 'string', default: '256' },
    rounds: { type: 'string', default: '3' },
    evaluation: { type: 'boolean', default: false },
  },
})
const [model = modelFolder] = positionals
const { calibration, text } = values
const [sequences, sequenceLength, rounds] = [values.sequences, values['sequence-length'], values.rounds].map(
  Number,
)

/** What runs the model. */
interface Means {
  readonly engine: EngineName
  readonly products: ProductsName
}

/** Seconds by what was done. */
type Laps = Readonly<Record<string, number>>

const contenders = await thoseThatStart([
  { engine: 'wasm', products: 'wasm' },
  { engine: 'wasm', products: 'blas' },
  { engine: 'tensorflow', products: 'wasm' },
])
const from = describe(environment())
for (const means of contenders) await work(means, 1)
const laps: Laps[][] = contenders.map(() => [])
for (let round = 0; round < rounds; round++) {
  for (const [i, means] of contenders.entries()) laps[i].push(await work(means, sequences))
}
const medians = laps.map((of): Laps => {
  const names = Object.keys(of[0])
  return Object.fromEntries(names.map((name) => [name, medianOf(of.map((lap) => lap[name]))]))
})
const heads = contenders.map(({ engine, products }) => (products === 'blas' ? `${engine}, BLAS` : engine))
const rows = Object.keys(medians[0]).map((name) => [
  name,
  ...medians.map((of) => of[name].toPrecision(3)),
  ...medians.slice(1).map((of) => (of[name] / medians[0][name]).toFixed(2)),
])
const ratios = heads.slice(1).map((head) => `${head} / ${heads[0]}`)
console.log(
  formatTable(
    [['seconds', ...heads, ...ratios], [], ...rows],
    ['left', ...rows[0].slice(1).map(() => 'right' as const)],
  ),
)
console.log(from)

async function thoseThatStart(wanted: readonly Means[]): Promise<Means[]> {
  const started: Means[] = []
  for (const means of wanted) {
    try {
      await startProducts(means.products)
      await startEngine(means.engine)
      started.push(means)
    } catch (error) {
      console.warn(`left out: ${means.engine} with ${means.products}: ${(error as Error).message}`)
    }
  }
  return started
}

async function work(means: Means, count: number): Promise<Laps> {
  const windows = Math.max(1, Math.floor((2 * count) / 3))
  const evaluated = { model, reference: model, text, context: sequenceLength, windows, ...means }
  const evaluation = await secondsOf(() => evaluateModel(evaluated))
  if (values.evaluation) return { evaluation }
  const all = { model, calibration, sequences: count, sequenceLength, ...means }
  const { seconds } = await quantizeModel({ ...all, method: 'gptq', bits: 3 })
  const tuned = { trellisBits: 0, refinementRounds: 0, tuningEpochs: 1, tuningSequences: count } as const
  const { seconds: gradients } = await quantizeModel({ ...all, ...tuned, bits: 2 })
  return { evaluation, calibration: seconds.calibration, tuning: gradients.tuning }
}
