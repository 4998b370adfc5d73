/**
 * One block of a random Llama through `quantizeModel` of another checkout of this package and of this one, in turns:
 * `npm run build && npx tsx benchmarks/models/before-after.ts CHECKOUT [--hidden 2048] [--inner 5504] [--sequences 4]`.
 * CHECKOUT is built too (`git worktree add ../before COMMIT; cd ../before; npm ci; npm run build`). On one thread, so that
 * seconds are the processor's; calibration is scaled to 16 sequences of 2048 tokens, as it grows with them. Prints Markdown.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { setThreads } from '../../src/kernels/kernels.js'
import { describe, environment } from '../common/environment.js'
import { lastLineIn } from '../common/in-checkout.js'
import type { ModelSizes } from '../common/random-model.js'
import { randomSequences, writeRandomModel } from '../common/write-random-model.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    hidden: { type: 'string', default: '2048' },
    inner: { type: 'string', default: '5504' },
    sequences: { type: 'string', default: '4' },
    length: { type: 'string', default: '2048' },
  },
})
const [before] = positionals
if (before === undefined)
  throw new Error('which checkout? npx tsx benchmarks/models/before-after.ts CHECKOUT')
const here = fileURLToPath(new URL('../..', import.meta.url))
const [sequences, length] = [Number(values.sequences), Number(values.length)]
/** What calibration is scaled to. */
const ALL_SEQUENCES = 16

const hidden = Number(values.hidden)
const heads = hidden / 128
const inner = Number(values.inner)
const sizes: ModelSizes = { name: 'one block', hidden, inner, heads, kvHeads: heads, blocks: 1, words: 4096 }
setThreads(1)

/** What is compared: a checkout and the options it is given beside the model and its calibration. */
const rows: readonly (readonly [name: string, checkout: string, options: object])[] = [
  ['before, its defaults', before, {}],
  ['now, that algorithm, wasm', here, { trellisBits: 0, tokenWeights: 'equal' }],
  ['now, that algorithm, BLAS', here, { trellisBits: 0, tokenWeights: 'equal', products: 'blas' }],
  ['now, the defaults, wasm', here, {}],
  ['now, the defaults, BLAS', here, { products: 'blas' }],
]

interface Phases {
  readonly calibration: number
  readonly quantization: number
}

const folder = await mkdtemp(join(tmpdir(), 'gptvq-before-after-'))
try {
  const model = join(folder, 'model')
  await writeRandomModel(model, sizes)
  console.log('| checkout, setting | calibration, s | quantization, s | all, s | of before |')
  console.log('| --- | ---: | ---: | ---: | ---: |')
  let first: number | undefined
  for (const [name, checkout, options] of rows) {
    const { calibration, quantization } = await secondsOf(checkout, {
      model,
      engine: 'wasm',
      threads: 1,
      ...options,
    })
    const all = calibration + quantization
    first ??= all
    const shown = [calibration, quantization, all].map((seconds) => seconds.toPrecision(3))
    console.log(`| ${[name, ...shown, (all / first).toFixed(2)].join(' | ')} |`)
  }
  console.log(`\n${describe(environment())}`)
} finally {
  await rm(folder, { recursive: true, force: true })
}

/** Seconds of the phases, calibration scaled to all sequences. */
async function secondsOf(checkout: string, options: object): Promise<Phases> {
  const tokens = randomSequences(sizes, sequences, length).map((ids) => [...ids])
  const program = `
    const { options, tokens } = ${JSON.stringify({ options, tokens })}
    const sequences = tokens.map((ids) => Int32Array.from(ids))
    const { seconds } = await quantizeModel({ ...options, calibration: { sequences } })
    console.log(JSON.stringify(seconds))`
  const { calibration, quantization }: Phases = JSON.parse(await lastLineIn(checkout, program))
  return { calibration: (calibration * ALL_SEQUENCES) / sequences, quantization }
}
