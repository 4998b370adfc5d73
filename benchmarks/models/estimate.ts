/**
 * Estimates a run, does it, and prints both: `npx tsx benchmarks/models/estimate.ts MODEL --calibration TEXT [--sequences N]
 * [--sequence-length N] [--method gptvq] [--bpv 2.125] [--ends gptvq] [--threads N] [--products auto] [--cpu]`.
 * `random:BLOCKS` for MODEL stands for random weights in so many blocks of SmolLM2-135M's shapes,
 * `random:BLOCKS:HIDDEN:INNER` in blocks of other ones. With `--ends`, embedding and head are quantized to 4 bits by that
 * method. What else the machine does meanwhile counts in both; with `--cpu` both are told in processor seconds of all
 * threads, which it matters less to.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  type EndMethod,
  estimateModel,
  type ProductsName,
  type QuantizationMethod,
  quantizeModel,
} from 'gptvq/model'
import { formatTable } from '../../src/cli/terminal/table.js'
import type { ModelSizes } from '../common/random-model.js'
import { randomSequences, writeRandomModel } from '../common/write-random-model.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    calibration: { type: 'string' },
    sequences: { type: 'string', default: '128' },
    'sequence-length': { type: 'string', default: '2048' },
    method: { type: 'string', default: 'gptvq' },
    bpv: { type: 'string' },
    ends: { type: 'string' },
    threads: { type: 'string' },
    products: { type: 'string', default: 'wasm' },
    cpu: { type: 'boolean', default: false },
  },
})
const [model] = positionals
const random = model?.match(/^random:(\d+)(?::(\d+):(\d+))?$/)
if (model === undefined || (values.calibration === undefined && !random)) {
  throw new Error('usage: npx tsx benchmarks/models/estimate.ts MODEL --calibration TEXT')
}
if (values.cpu) {
  // the clock of both
  performance.now = () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1000
  }
}

const folder = await mkdtemp(join(tmpdir(), 'gptvq-estimate-'))
try {
  await compare(random ? await randomModel(random) : {})
} finally {
  await rm(folder, { recursive: true, force: true })
}

async function randomModel([, blocks, width = '576', inner = '1536']: RegExpMatchArray) {
  const hidden = Number(width)
  const heads = hidden / 64
  const kvHeads = heads % 3 === 0 ? heads / 3 : heads
  const sizes: ModelSizes = {
    ...{ name: 'random', hidden, inner: Number(inner), heads, kvHeads, blocks: Number(blocks), words: 49152 },
  }
  const model = join(folder, 'model')
  await writeRandomModel(model, sizes)
  const counts = [Number(values.sequences), Number(values['sequence-length'])] as const
  return { model, calibration: { sequences: randomSequences(sizes, ...counts) } }
}

async function compare(of: Pick<Parameters<typeof estimateModel>[0], 'calibration'>): Promise<void> {
  const ends = values.ends as EndMethod | undefined
  const text = {
    ...{ calibration: values.calibration, sequences: Number(values.sequences) },
    sequenceLength: Number(values['sequence-length']),
  }
  const options = {
    ...{ model, method: values.method as QuantizationMethod, products: values.products as ProductsName },
    ...(of.calibration === undefined && text),
    ...(values.bpv !== undefined && { bpv: Number(values.bpv) }),
    ...(values.threads !== undefined && { threads: Number(values.threads) }),
    ...(ends && { embeddingBits: 4 as const, embeddingMethod: ends }),
    // the embedded model's head is its embedding
    ...(ends && random && { headBits: 4 as const, headMethod: ends }),
    ...of,
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
  const unit = values.cpu ? 'CPU s' : 's'
  console.log(
    formatTable(
      [
        ['', 'estimated', 'found', 'ratio'],
        row(`calibration, ${unit}`, estimate.seconds.calibration, seconds.calibration),
        ...(seconds.sensitivity > 0
          ? [row(`sensitivity, ${unit}`, estimate.seconds.sensitivity, seconds.sensitivity)]
          : []),
        row(`quantization, ${unit}`, estimate.seconds.quantization, seconds.quantization),
        row(`all, ${unit}`, estimate.seconds.total, seconds.total),
        row('peak memory, MB', estimate.memoryBytes / 1e6, peak / 1e6),
        row('bits per value', estimate.bitsPerValue, bitsPerValue),
      ],
      ['left', 'right', 'right', 'right'],
    ),
  )
  console.log(`measured in ${estimate.measuredSeconds.toFixed(1)} ${unit}`)
}
