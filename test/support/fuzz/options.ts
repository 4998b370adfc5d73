import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { randomGenerator } from '../../../src/common/random.js'
import { exportGguf, exportOnnx } from '../../../src/export.js'
import { openGenerator } from '../../../src/generate.js'
import { vqOptionNames } from '../../../src/gptvq/options.js'
import { dequantizeLayer, quantizeLayer } from '../../../src/index.js'
import {
  analyzeModel,
  compareSettings,
  dequantizeModel,
  evaluateModel,
  quantizeModel,
  quantizeTensors,
} from '../../../src/model.js'
import { quantizeModelOptionNames } from '../../../src/pipeline/quantize/quantize-model-options.js'
import { gaussianMatrix, randomHessian } from '../random-matrix.js'
import { tinyText, writeTinyModel } from '../tiny-model.js'
import { type Fuzzer, tryCall } from './fuzzer.js'
import { oddValues, pick } from './mutate.js'

type Options = Record<string, unknown>
type Random = () => number

/** What holds for the whole process, or reaches another machine. */
const apart = new Set([
  'model',
  'output',
  'threads',
  'products',
  'engine',
  'redis',
  'shared',
  'signal',
  'onLayer',
])

/** Values that make sense somewhere; where they do not, they are as odd as any. */
const plausible: readonly unknown[] = [
  ...[
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    32,
    64,
    128,
    0.01,
    0.1,
    2.125,
    2.5,
    65536,
    'none',
    'auto',
    'natural',
    'activation',
  ],
  ...['mixed', 'gptq', 'rtn', 'gptvq', 'kmeans', 'cdf', 'kmeans++', 'diagonal', 'full', 'minmax', 'mse'],
  ...[
    'sequential-mse',
    'symmetric',
    'asymmetric',
    'tensor',
    'channel',
    'group',
    'token',
    'w8a8',
    'smoothquant',
  ],
  ...[
    'sequential',
    'block',
    'keep',
    'discard',
    'F16',
    'Q8_0',
    'Q4_K',
    'packed',
    'float32',
    'int8',
    '*q_proj',
  ],
  ...[[2, 3], [1, 4], ['*k_proj'], { text: tinyText(200) }, { tokens: Int32Array.of(1, 2, 3) }],
  ...[[{ pattern: '*q_proj', options: { bits: 3 } }], { sequences: [Int32Array.of(300)] }],
]

/** Counts of work: any number is fine, and a large one only takes long. */
const costly =
  /^(kmeansIterations|restarts|refinementRounds|codebookUpdateSteps|sequences|tuning|maxTokens|windows|continuations)/

/** Sets of options of everything that quantizes, scores, writes and exports, with some that make no sense. */
export const optionFuzzer: Fuzzer = {
  name: 'options',
  async prepare(work) {
    const { folder: model } = await writeTinyModel(join(work, 'model'))
    const quantized = join(work, 'quantized')
    await quantizeModel({ model, output: quantized, method: 'rtn' })
    const output = join(work, 'output')
    const calls = callsOn(model, quantized, output)
    return async (seed) => {
      const random = randomGenerator(seed)
      const { name, sound, names, call } = calls[seed % calls.length]
      const changed: Options = {}
      const count = 1 + Math.floor(4 * random())
      for (let i = 0; i < count; i++) {
        const option = pick(names, random)
        changed[option] = oddValue(option, random)
      }
      const shown = JSON.stringify(changed).slice(0, 300)
      const findings = await tryCall(`${name} ${shown}`, () => call({ ...sound, ...changed }))
      await rm(output, { recursive: true, force: true })
      return findings
    }
  },
}

function oddValue(option: string, random: Random): unknown {
  if (costly.test(option) && random() < 0.7) return Math.floor(5 * random())
  const value = random() < 0.6 ? pick(plausible, random) : pick(oddValues, random)
  return costly.test(option) && typeof value === 'number' && value > 8 ? 8 : structuredClone(value)
}

interface Call {
  readonly name: string
  /** Options that work, which the changed ones are laid over. */
  readonly sound: Options
  /** Those that can be changed. */
  readonly names: readonly string[]
  call(options: Options): unknown
}

function callsOn(model: string, quantized: string, output: string): Call[] {
  const text = { text: tinyText(200) }
  const few = { calibration: text, sequences: 2, sequenceLength: 16, refinementRounds: 1 }
  const quantizing = Object.keys(quantizeModelOptionNames).filter((name) => !apart.has(name))
  const layer = { ...few, trellisBits: 2 }
  const scalar = ['bits', 'groupSize', 'granularity', 'grid', 'scaleSearch', 'scaleCandidates']
  const activations = ['activationBits', 'activationRange', 'cacheBits', 'scheme', 'equalization']
  const writing = ['temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'stop', 'seed', 'topLogprobs']
  return [
    {
      name: 'quantizeLayer',
      sound: {},
      names: [...Object.keys(vqOptionNames), 'tokens', 'name'],
      call: layerOf,
    },
    {
      name: 'quantizeModel',
      sound: { model, output, force: true, ...layer },
      names: quantizing,
      call: (options) => quantizeModel(options as never),
    },
    {
      name: 'quantizeModel rtn',
      sound: { model, method: 'rtn' },
      names: [
        ...scalar,
        ...activations,
        'calibration',
        'sequences',
        'skip',
        'set',
        'embeddingBits',
        'embeddingMethod',
        'headBits',
        'headMethod',
      ],
      call: (options) => quantizeModel(options as never),
    },
    {
      name: 'quantizeTensors',
      sound: { model, output, force: true },
      names: [...scalar, 'method', 'tensors', 'vectorDim', 'bpv', 'columnsPerGroup', 'codebookBits', 'seed'],
      call: (options) => quantizeTensors(options as never),
    },
    {
      name: 'evaluateModel',
      sound: { model: quantized, text, context: 16, windows: 2 },
      names: ['text', 'context', 'windows', 'continuations', 'reference', 'engine'],
      call: (options) => evaluateModel(options as never),
    },
    {
      name: 'analyzeModel',
      sound: { model, text, context: 16, windows: 1 },
      names: [...scalar, ...activations, 'text', 'context', 'windows'],
      call: (options) => analyzeModel(options as never),
    },
    {
      name: 'compareSettings',
      sound: { model, text, trials: [{ name: 'a', options: { method: 'rtn' } }], context: 16, windows: 1 },
      names: ['text', 'trials', 'calibration', 'context', 'windows'],
      call: (options) => compareSettings(options as never),
    },
    {
      name: 'generate',
      sound: { prompt: 'a', maxTokens: 2, seed: 1 },
      names: ['prompt', 'messages', 'maxTokens', ...writing],
      call: (options) => writeSome(model, options),
    },
    {
      name: 'openGenerator',
      sound: { model: quantized, context: 32 },
      names: ['model', 'layers', 'context', 'activations', 'sequences', 'cacheBytes', 'engine'],
      call: async (options) => (await openGenerator(options as never)).close(),
    },
    {
      name: 'dequantizeModel',
      sound: { model: quantized, output, force: true },
      names: ['dtype', 'force', 'maxShardBytes'],
      call: (options) => dequantizeModel(options as never),
    },
    {
      name: 'exportGguf',
      sound: { model: quantized, output: `${output}.gguf`, force: true },
      names: ['type', 'preTokenizer', 'force'],
      call: (options) => exportGguf(options as never),
    },
    {
      name: 'exportOnnx',
      sound: { model: quantized, output, force: true },
      names: ['weights', 'encodings', 'inlineBytes', 'force'],
      call: (options) => exportOnnx(options as never),
    },
  ]
}

const weight = gaussianMatrix(8, 16, 1)
const hessian = randomHessian(16, 24, 2)

async function layerOf(options: Options): Promise<void> {
  const layer = await quantizeLayer(weight, hessian, options as never)
  if (!dequantizeLayer(layer).data.every(Number.isFinite)) throw new Error('a weight is not finite')
}

async function writeSome(model: string, options: Options): Promise<void> {
  const generator = await openGenerator({ model, context: 32 })
  try {
    for await (const _ of generator.generate(options as never));
  } finally {
    await generator.close()
  }
}
