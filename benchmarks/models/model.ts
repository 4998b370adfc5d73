import {
  cutWindows,
  type OpenModel,
  openModel,
  type QuantizedLayer,
  type QuantizeModelOptions,
  quantizeModel,
  readTokens,
  type ScoredModel,
  scoreModels,
  startEngine,
  withQuantizedLayers,
} from 'gptvq/model'
import { disposeBlock, openBlock } from '../../src/model/decoder/block.js'
import { useEngineProducts, useOwnProducts } from '../../src/model/ops/tensors/products.js'
import { type CalibrationStream, copyStream } from '../../src/pipeline/calibrate/calibration-stream.js'
import { medianOf, secondsOf, spreadOf, timingOf } from '../common/harness.js'
import { embeddedText, hessiansThrough, modelFolder, sequenceLength } from '../common/real-layers.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'

const methods: readonly { name: string; options: Partial<QuantizeModelOptions> }[] = [
  { name: 'RTN', options: { method: 'rtn' } },
  { name: 'GPTQ', options: { method: 'gptq' } },
  { name: 'GPTVQ 2-D', options: { method: 'gptvq' } },
]

/** What the quickstart works on. */
interface Work {
  readonly model: OpenModel
  readonly sequences: number
  readonly windows: readonly Int32Array[]
}

/** One phase of one run. Phases that run the model have tokens. */
interface Lap {
  readonly phase: string
  readonly seconds: number
  readonly tokens: number | null
}

/** The quickstart's phases on the embedded model, and what they would take on tensors of the engine. */
export async function run({ quick }: SuiteOptions): Promise<Table[]> {
  await startEngine('wasm')
  const model = await openModel(modelFolder)
  try {
    const text = await readTokens(`${modelFolder}/texts/evaluation.txt`, modelFolder, model.config)
    const windows = cutWindows(text, sequenceLength, quick ? 1 : 32)
    const work: Work = { model, sequences: quick ? 1 : 48, windows }
    const rounds = quick ? 1 : 3
    const compared = quick ? methods.slice(0, 1) : methods
    const laps: Lap[][] = []
    for (let round = 0; round < rounds; round++) laps.push(await quickstart(work, compared))
    return [phaseTable(laps, work), await productsTable(work, rounds)]
  } finally {
    await model.close()
  }
}

async function quickstart({ model, sequences, windows }: Work, compared: typeof methods): Promise<Lap[]> {
  const laps: Lap[] = []
  const candidates: ScoredModel[] = []
  for (const { name, options } of compared) {
    const layers = new Map<string, QuantizedLayer>()
    const { seconds, calibration } = await quantizeModel({
      model: modelFolder,
      bits: 2,
      ...(options.method !== 'rtn' && {
        calibration: `${modelFolder}/texts/calibration.txt`,
        sequences,
        sequenceLength,
      }),
      ...options,
      engine: 'wasm',
      onLayer: (weight, layer) => layers.set(weight, layer),
    })
    if (calibration) {
      const tokens = calibration.sequences * calibration.length
      laps.push({ phase: `calibration for ${name}`, seconds: seconds.calibration, tokens })
    }
    laps.push({ phase: `quantization, ${name}`, seconds: seconds.quantization, tokens: null })
    candidates.push({ source: withQuantizedLayers(model.source, layers), config: model.config })
  }
  const seconds = await secondsOf(() => scoreModels({ reference: model, candidates, windows }))
  const tokens = (candidates.length + 1) * windows.length * sequenceLength
  laps.push({ phase: `evaluation of ${candidates.length + 1} models`, seconds, tokens })
  return laps
}

function phaseTable(laps: readonly Lap[][], { sequences, windows }: Work): Table {
  const rows = laps[0].map(({ phase, tokens }, i): Row => {
    const timing = timingOf(laps.map((round) => round[i].seconds))
    return {
      phase,
      ...timing,
      spread: spreadOf(timing),
      tokens,
      tokensPerSecond: tokens === null ? null : tokens / timing.seconds,
    }
  })
  return {
    id: 'model-phases',
    title: 'The embedded model, phase by phase',
    note:
      `What \`npm run quickstart\` does, less writing and reading back: ${sequences} calibration sequences and ` +
      `${windows.length} evaluation windows of ${sequenceLength} tokens. Calibration reads and tokenizes its text, runs ` +
      'the model twice and sums the Hessians; evaluation runs the models and compares all their predictions.',
    columns: [
      { key: 'phase', label: 'phase' },
      { key: 'seconds', label: 'seconds', digits: 3 },
      { key: 'spread', label: 'spread %', decimals: 0 },
      { key: 'runs', label: 'runs', decimals: 0 },
      { key: 'tokens', label: 'tokens' },
      { key: 'tokensPerSecond', label: 'tokens per second', decimals: 0 },
    ],
    rows,
    keys: ['phase'],
    compared: 'seconds',
  }
}

/** Calibration and evaluation on the kernels of this package and on tensors of the wasm engine, in turn. */
async function productsTable(work: Work, rounds: number): Promise<Table> {
  const { model, sequences, windows } = work
  const score = () => scoreModels({ reference: model, candidates: [model], windows })
  const embedded = await embeddedText(model, 'calibration', sequences)
  const tasks = [
    {
      phase: 'calibration',
      tokens: sequences * sequenceLength,
      perform: () => calibrate(model, copyStream(embedded)),
    },
    { phase: 'evaluation', tokens: 2 * windows.length * sequenceLength, perform: score },
  ]
  const rows: Row[] = []
  for (const { phase, tokens, perform } of tasks) {
    const samples = { own: [] as number[], engine: [] as number[] }
    await perform()
    for (let round = 0; round < rounds; round++) {
      samples.own.push(await secondsOf(perform))
      useEngineProducts()
      samples.engine.push(await secondsOf(perform))
      useOwnProducts()
    }
    rows.push(comparison(phase, medianOf(samples.own), medianOf(samples.engine), tokens))
  }
  const sum = (key: string) => rows.reduce((total, row) => total + (row[key] as number), 0)
  rows.push(comparison('both', sum('own'), sum('engine'), sum('tokens')))
  return {
    id: 'model-products',
    title: 'The forward pass on the kernels of this package and on tensors',
    note:
      'The same work on the kernels of this package, as is the default of the wasm engine, and on tensors with ' +
      'what tfjs-backend-wasm comes with; Hessians and scores are computed by the kernels in both. Texts are ' +
      'tokenized before; evaluation: the full model against itself.',
    columns: [
      { key: 'phase', label: 'phase' },
      { key: 'own', label: 'own kernels, s', digits: 3 },
      { key: 'engine', label: 'tensors, s', digits: 3 },
      { key: 'ownRate', label: 'own, tokens per second', decimals: 0 },
      { key: 'engineRate', label: 'tensors, tokens per second', decimals: 0 },
      { key: 'ratio', label: 'times as fast', digits: 3 },
    ],
    rows,
    keys: ['phase'],
    compared: 'own',
  }
}

function comparison(phase: string, own: number, engine: number, tokens: number): Row {
  return {
    phase,
    tokens,
    own,
    engine,
    ownRate: tokens / own,
    engineRate: tokens / engine,
    ratio: engine / own,
  }
}

/** What calibration runs, with nothing in between: Hessians of every block, activations on to the next. */
async function calibrate(model: OpenModel, stream: CalibrationStream): Promise<void> {
  for (const description of model.config.blocks) {
    const block = await openBlock(model.source, description)
    try {
      await hessiansThrough(block, stream)
    } finally {
      disposeBlock(block)
    }
  }
}
