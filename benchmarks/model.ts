import { fileURLToPath } from 'node:url'
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
import { secondsOf, spreadOf, timingOf } from './harness.js'
import type { Row, Table } from './report.js'
import type { SuiteOptions } from './suites.js'

const folder = fileURLToPath(new URL('../examples/models/tiny-llama', import.meta.url))
const CONTEXT = 256

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

/** The quickstart's phases on the embedded model. */
export async function run({ quick }: SuiteOptions): Promise<Table[]> {
  await startEngine('wasm')
  const model = await openModel(folder)
  try {
    const text = await readTokens(`${folder}/texts/evaluation.txt`, folder, model.config)
    const work: Work = {
      model,
      sequences: quick ? 2 : 48,
      windows: cutWindows(text, CONTEXT, quick ? 2 : 32),
    }
    const compared = quick ? methods.slice(0, 2) : methods
    const laps: Lap[][] = []
    for (let round = 0; round < (quick ? 1 : 3); round++) laps.push(await quickstart(work, compared))
    return [phaseTable(laps, work)]
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
      model: folder,
      bits: 2,
      ...(options.method !== 'rtn' && {
        calibration: `${folder}/texts/calibration.txt`,
        sequences,
        sequenceLength: CONTEXT,
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
  const tokens = (candidates.length + 1) * windows.length * CONTEXT
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
      `${windows.length} evaluation windows of ${CONTEXT} tokens. Calibration reads and tokenizes its text, runs the ` +
      'model twice and sums the Hessians; evaluation runs the models and compares all their predictions.',
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
