import { setThreads, threadCount } from '../../src/kernels/kernels.js'
import { type PackedActivations, packedActivations } from '../../src/kernels/packed-contract.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { setPackedActivations } from '../../src/model/ops/kernels/kernel-weights.js'
import { type Decoder, disposeDecoder, loadDecoder } from '../../src/model/passes/cached-decoder.js'
import { packedBytes } from '../../src/packing/bits-per-value.js'
import type { PackedQuantizedLayer } from '../../src/packing/quantized-layer.js'
import { medianOf, spreadOf, timingOf } from '../common/harness.js'
import { scalarLayer, tallGroups, vectorLayer } from '../common/random-layers.js'
import { describeSizes, type MakeLayer, type ModelSizes, randomWeights } from '../common/random-model.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import { type Written, writeTokens } from './generate-runs.js'
import { openLlama, startLlama } from './llama-runs.js'

/** Writing text with models of random weights: ours as they are stored, in float32, and llama.cpp's. */
export async function run(options: SuiteOptions): Promise<Table[]> {
  await startEngine('wasm')
  const rows: Row[] = []
  for (const sizes of sizesOf(options)) rows.push(...(await timeModel(sizes, options.quick)))
  return [
    {
      id: 'generation',
      title: 'Writing text',
      note:
        'One sequence: a prompt, then token by token; random weights, all linear layers and the head in the form that is named. ' +
        'Contenders take turns; medians. Float32 has fewer blocks where more than memory holds would be needed, and its seconds are ' +
        'those of as many blocks as the others have. A processor second is one of all threads ' +
        'together; unlike a second it does not count what else the machine does. 160 rows: so many share a codebook, for 64 columns. To float32, weights and GB are by processor ' +
        'seconds. Bits: bytes of layers and head, by their weights. Load: how much ' +
        'the memory of the process grows at most while weights are loaded, over their bytes (where it is the first to be). ' +
        'llama.cpp is there where `GPTVQ_LLAMA_CPP` names a folder with node-llama-cpp.',
      columns: [
        { key: 'model', label: 'model' },
        { key: 'form', label: 'form' },
        { key: 'threads', label: 'threads', decimals: 0 },
        { key: 'prompt', label: 'prompt tokens/s', digits: 3 },
        { key: 'tokens', label: 'tokens/s', digits: 3 },
        { key: 'spread', label: 'spread %', decimals: 0 },
        { key: 'busy', label: 'tokens per processor second', digits: 3 },
        { key: 'toFloat', label: 'to float32', digits: 3 },
        { key: 'bits', label: 'bits', digits: 3 },
        { key: 'rate', label: 'billion weights/s', digits: 3 },
        { key: 'bandwidth', label: 'GB/s', digits: 3 },
        { key: 'load', label: 'load', digits: 3 },
      ],
      rows,
      keys: ['model', 'form', 'threads'],
      compared: 'tokens',
    },
  ]
}

function sizesOf({ quick, full }: SuiteOptions): ModelSizes[] {
  const tiny = {
    name: 'as tiny-llama',
    hidden: 256,
    inner: 768,
    heads: 8,
    kvHeads: 4,
    blocks: 4,
    words: 1024,
  }
  if (quick) return [{ ...tiny, hidden: 64, inner: 128, blocks: 1, words: 300 }]
  const blocks = full ? 16 : 4
  const large = { hidden: 2048, inner: 5632, heads: 32, kvHeads: 8, blocks, words: 32000 }
  return [{ name: `2048, 5632, ${blocks} blocks`, ...large }, tiny]
}

/** Blocks of a float32 model that the kernels' memory holds beside the others. */
const FLOAT_BYTES = 0.6 * 2 ** 30

interface Form {
  readonly name: string
  readonly make: MakeLayer
  /** Default: float32 and int16. */
  readonly finenesses?: readonly PackedActivations[]
}

const forms: readonly Form[] = [
  { name: '2-D, 2 bits, trellis', make: (rows, cols) => vectorLayer(rows, cols, { trellisBits: 8 }) },
  { name: '2-D, 2 bits', make: (rows, cols) => vectorLayer(rows, cols, {}) },
  {
    name: '2-D, 2 bits, 160 rows',
    make: (rows, cols) => vectorLayer(rows, cols, tallGroups),
    finenesses: packedActivations,
  },
  { name: 'scalar, 4 bits', make: (rows, cols) => scalarLayer(rows, cols, 4, 128) },
  { name: 'float32', make: undefined, finenesses: ['float32'] },
]

/** Types of llama.cpp: of layers, and of the head as its own quantizer would have it. */
const llamaTypes = [
  ['Q2_K', 'Q6_K', 2.625],
  ['IQ2_XXS', 'Q6_K', 2.0625],
  ['Q4_0', 'Q6_K', 4.5],
] as const

interface Writer {
  readonly form: string
  readonly threads: number
  /** Of layers and head. */
  readonly bytes: number
  readonly load: number | null
  write(prompt: number[], count: number): Promise<Written>
}

async function timeModel(sizes: ModelSizes, quick: boolean): Promise<Row[]> {
  const most = threadCount()
  const threadCounts = most > 1 ? [1, most] : [1]
  const closers: (() => unknown)[] = []
  const writers: Writer[] = []
  for (const form of forms) writers.push(...(await ourWriters(sizes, form, threadCounts, closers)))
  writers.push(...(await llamaWriters(sizes, threadCounts, quick, closers)))
  const prompt = Array.from({ length: quick ? 8 : 32 }, (_, i) => (i * 37) % sizes.words)
  const count = quick ? 2 : 8
  const runs = writers.map((): Written[] => [])
  // the first is warm-up
  for (let round = -1; round < (quick ? 1 : 3); round++) {
    for (const [i, writer] of writers.entries()) {
      const written = await writer.write(prompt, count)
      if (round >= 0) runs[i].push(written)
    }
  }
  for (const close of closers) await close()
  setThreads(most)
  setPackedActivations('float32')
  const secondsOf = (i: number) => medianOf(runs[i].map(({ tokenSeconds }) => tokenSeconds))
  const busyOf = (i: number) => medianOf(runs[i].map(({ tokenBusy }) => tokenBusy))
  return writers.map((writer, i) => {
    const float = writers.findIndex(({ form, threads }) => form === 'float32' && threads === writer.threads)
    const weights = weightsOf(sizes)
    return {
      model: sizes.name,
      form: writer.form,
      threads: writer.threads,
      prompt: prompt.length / medianOf(runs[i].map(({ promptSeconds }) => promptSeconds)),
      tokens: 1 / secondsOf(i),
      spread: spreadOf(timingOf(runs[i].map(({ tokenSeconds }) => tokenSeconds))),
      busy: 1 / busyOf(i),
      toFloat: busyOf(float) / busyOf(i),
      bits: (8 * writer.bytes) / weights,
      rate: (1e-9 * weights) / busyOf(i),
      bandwidth: (1e-9 * writer.bytes) / busyOf(i),
      load: writer.load,
    }
  })
}

const weightsOf = (sizes: ModelSizes) => sizes.blocks * blockWeights(sizes) + sizes.words * sizes.hidden

function blockWeights({ hidden, inner, heads, kvHeads }: ModelSizes): number {
  return hidden * (2 * hidden + (2 * hidden * kvHeads) / heads + 3 * inner)
}

async function ourWriters(
  sizes: ModelSizes,
  { name, make, finenesses = ['float32', 'int16'] }: Form,
  threadCounts: readonly number[],
  closers: (() => unknown)[],
): Promise<Writer[]> {
  const held = make ? sizes.blocks : blocksHeld(sizes)
  const own = { ...sizes, blocks: held }
  const layers = make && madeOnce(make)
  const source = randomWeights(own, layers)
  // makes what it gives, which is no part of loading
  if (layers) storedBytes(sizes, layers)
  const [before, most] = [process.memoryUsage().rss, 1024 * process.resourceUsage().maxRSS]
  const decoder = await loadDecoder(source, describeSizes(own), { keepsPacked: true })
  await decoder.head.forEachSlice(() => {})
  const peak = 1024 * process.resourceUsage().maxRSS
  closers.push(() => disposeDecoder(decoder))
  const bytes = layers ? storedBytes(sizes, layers) : 4 * weightsOf(sizes)
  const load = make && peak > most ? (peak - before) / bytes : null
  return threadCounts.flatMap((threads) =>
    finenesses.map((activations) => ({
      form: activations === 'float32' ? name : `${name}, ${activations}`,
      ...{ threads, bytes, load },
      async write(prompt: number[], count: number) {
        setThreads(threads)
        setPackedActivations(activations)
        return withAllBlocks(await writeTokens(decoder, prompt, count), decoder, sizes)
      },
    })),
  )
}

function blocksHeld(sizes: ModelSizes): number {
  const room = FLOAT_BYTES - 4 * sizes.words * sizes.hidden
  return Math.max(1, Math.min(sizes.blocks, Math.floor(room / (4 * blockWeights(sizes)))))
}

/** What a model of all blocks would take, its head being as large as it is. */
function withAllBlocks(written: Written, { config }: Decoder, sizes: ModelSizes): Written {
  const held = { ...sizes, blocks: config.blocks.length }
  const ratio = weightsOf(sizes) / weightsOf(held)
  const promptRatio = sizes.blocks / held.blocks
  return {
    promptSeconds: written.promptSeconds * promptRatio,
    tokenSeconds: written.tokenSeconds * ratio,
    tokenBusy: written.tokenBusy * ratio,
  }
}

function madeOnce(make: NonNullable<MakeLayer>): NonNullable<MakeLayer> {
  const known = new Map<string, PackedQuantizedLayer>()
  return (rows, cols) => {
    const layer = known.get(`${rows} ${cols}`) ?? make(rows, cols)
    known.set(`${rows} ${cols}`, layer)
    return layer
  }
}

function storedBytes(sizes: ModelSizes, make: NonNullable<MakeLayer>): number {
  const { hidden, inner, heads, kvHeads, blocks, words } = sizes
  const kv = (hidden / heads) * kvHeads
  const bytesOf = (rows: number, cols: number) => packedBytes(make(rows, cols))
  const square = bytesOf(hidden, hidden)
  const block = 2 * square + 2 * bytesOf(kv, hidden) + 2 * bytesOf(inner, hidden) + bytesOf(hidden, inner)
  return blocks * block + bytesOf(words, hidden)
}

async function llamaWriters(
  sizes: ModelSizes,
  threadCounts: readonly number[],
  quick: boolean,
  closers: (() => unknown)[],
): Promise<Writer[]> {
  const llama = quick ? undefined : await startLlama(Math.max(...threadCounts))
  const writers: Writer[] = []
  for (const [type, headType, bits] of llama ? llamaTypes : []) {
    const runs = await openLlama(llama!, sizes, [type, headType], threadCounts)
    closers.push(runs.close)
    const bytes = (bits / 8) * sizes.blocks * blockWeights(sizes) + (6.5625 / 8) * sizes.words * sizes.hidden
    const form = `llama.cpp ${type}`
    writers.push(
      ...threadCounts.map((threads, i) => ({ form, threads, bytes, load: null, write: runs.writers[i] })),
    )
  }
  return writers
}
