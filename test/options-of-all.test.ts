import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startWorker } from '../src/distributed/index.js'
import * as exports from '../src/export.js'
import * as generators from '../src/generate.js'
import * as layers from '../src/index.js'
import * as models from '../src/model.js'
import * as reports from '../src/report.js'
import * as trainings from '../src/train.js'
import { tinyLlamaFolder } from './model/tiny-llama.js'

let output: string

beforeAll(async () => {
  output = join(await mkdtemp(join(tmpdir(), 'gptvq-options-')), 'out')
})

afterAll(() => rm(join(output, '..'), { recursive: true, force: true }))

type Options = Readonly<Record<string, unknown>>

/** How a public function is called, and which of its options are numbers or switches. */
interface Taking {
  /** Everything that it needs, and these. */
  readonly call: (options: Options) => unknown
  readonly numbers?: readonly string[]
  /** What the numbers need to be of use. */
  readonly with?: Options
  readonly switches?: readonly string[]
  /** Whether null stands for a number's default. */
  readonly takesNull?: boolean
}

const weight = layers.matrix(
  4,
  8,
  Float32Array.from({ length: 32 }, (_, i) => Math.sin(i)),
)
const hessian = layers.matrix(
  8,
  8,
  Float32Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? 1 : 0)),
)
const half = { tokens: 8, input: layers.matrix(8, 8) }
/** Too short for anything: what is not refused fails soon after. */
const text = { tokens: new Int32Array(1) }
const model = tinyLlamaFolder

/** Calls a function as one from JavaScript. */
const untyped =
  (call: unknown, ...first: unknown[]) =>
  (options: Options) =>
    (call as (...args: unknown[]) => unknown)(...first, options)

/** A function that takes all it needs by options. */
const whole = (call: unknown, needed: () => Options) => (options: Options) =>
  (call as (given: Options) => unknown)({ ...needed(), ...options })

const loop = ['heldOut', 'distillation', 'hiddenWeight', 'epochs', 'batch', 'accumulation', 'learningRate']
  .concat(['warmup', 'weightDecay', 'clip', 'measureEvery', 'patience', 'seed', 'sequences'])
  .concat(['sequenceLength', 'maxShardBytes'])
const scalar = ['groupSize', 'scaleCandidates']

const takers: Readonly<Record<string, Taking>> = {
  quantizeRtn: {
    call: (options) => untyped(layers.quantizeRtn, weight)({ bits: 3, ...options }),
    ...{ numbers: scalar, with: { scaleSearch: 'mse' } },
  },
  quantizeGptq: {
    call: (options) => untyped(layers.quantizeGptq, weight, hessian)({ bits: 3, ...options }),
    ...{ numbers: [...scalar, 'damping'], with: { scaleSearch: 'mse' } },
  },
  quantizeKmeans: { call: untyped(layers.quantizeKmeans, weight), numbers: ['seed', 'groupSize', 'bpv'] },
  // the numbers and switches of quantizeLayer and quantizeModel: see options-as-text.test.ts
  quantizeLayer: { call: untyped(layers.quantizeLayer, weight, hessian) },
  quantizeOnInputs: {
    call: untyped(layers.quantizeOnInputs, weight, layers.matrix(8, 8, hessian.data)),
    numbers: ['damping', 'seed', 'refinementTolerance'],
  },
  fitCodebook: {
    call: (options) => untyped(layers.fitCodebook, weight)({ k: 2, ...options }),
    numbers: ['k', 'iterations', 'seed'],
  },
  correctDrift: {
    call: untyped(layers.correctDrift, weight, hessian, [half, half]),
    numbers: ['share', 'maxMove', 'damping'],
  },
  quantizeModel: { call: whole(models.quantizeModel, () => ({ model, output, calibration: text })) },
  estimateModel: {
    call: whole(models.estimateModel, () => ({ model, output, calibration: text })),
    ...{ numbers: ['activationPercentile'], with: { activationBits: 8, activationRange: 'percentile' } },
    switches: ['force', 'resume'],
  },
  quantizeTensors: {
    call: whole(models.quantizeTensors, () => ({ model, output })),
    ...{ numbers: ['groupSize', 'maxShardBytes'], switches: ['force'] },
  },
  analyzeModel: {
    call: whole(models.analyzeModel, () => ({ model, text })),
    ...{ numbers: ['windows', 'context', 'groupSize'], takesNull: true },
  },
  compareSettings: {
    call: whole(models.compareSettings, () => ({ model, text, trials: [{ name: 'a', options: {} }] })),
  },
  evaluateModel: {
    call: whole(models.evaluateModel, () => ({ model, text })),
    ...{ numbers: ['windows', 'context'], takesNull: true },
  },
  scoreModels: { call: whole(models.scoreModels, () => ({ candidates: [], windows: [] })) },
  dequantizeModel: {
    call: whole(models.dequantizeModel, () => ({ model, output })),
    switches: ['force'],
  },
  createCheckpointWriter: {
    call: (options) => untyped(models.createCheckpointWriter, output)(options),
    ...{ numbers: ['maxShardBytes'], switches: ['force'] },
  },
  reportData: { call: whole(models.reportData, () => ({ model })), numbers: ['codebooks'] },
  writeReport: {
    call: whole(models.writeReport, () => ({ model, output })),
    ...{ numbers: ['codebooks'], switches: ['force'] },
  },
  resolveModel: { call: untyped(models.resolveModel, model), numbers: ['patience'] },
  httpSource: { call: untyped(models.httpSource, 'https://nowhere.invalid/') },
  cachedSource: { call: untyped(models.cachedSource, 'https://nowhere.invalid/') },
  openCheckpoint: { call: untyped(models.openCheckpoint, model) },
  openModel: { call: untyped(models.openModel, model) },
  tuneCodebooks: {
    call: whole(models.tuneCodebooks, () => ({ source: {}, config: {}, layers: new Map(), sequences: [] })),
  },
  trainModel: {
    call: whole(trainings.trainModel, () => ({ model, output, text, method: 'qat' })),
    ...{ numbers: [...loop, 'scaleRate', 'normRate', 'bits', 'groupSize'], switches: ['force'] },
  },
  distillModel: {
    call: whole(trainings.distillModel, () => ({ teacher: model, output, text, keepBlocks: [0] })),
    ...{ numbers: loop, switches: ['force'] },
  },
  exportGguf: { call: whole(exports.exportGguf, () => ({ model, output })), switches: ['force'] },
  exportOnnx: {
    call: whole(exports.exportOnnx, () => ({ model, output })),
    switches: ['force', 'encodings'],
  },
  pushModel: { call: whole(exports.pushModel, () => ({ model, repo: 'a/b' })), switches: ['private'] },
  openGenerator: {
    call: whole(generators.openGenerator, () => ({ model })),
    numbers: ['context', 'sequences', 'cacheBytes'],
  },
  startServer: {
    call: whole(generators.startServer, () => ({ model })),
    ...{ numbers: ['port', 'queue', 'bodyBytes', 'seconds'], takesNull: true },
  },
  startWorker: { call: whole(startWorker, () => ({ redis: 'redis://nowhere.invalid' })) },
  convergencePlot: {
    call: untyped(reports.convergencePlot, [{ name: 'a', values: [1, 2] }]),
    ...{ numbers: ['width'], switches: ['relative'] },
  },
  rateDistortionChart: {
    call: untyped(reports.rateDistortionChart, [{ method: 'a', bits: 1, value: 1 }]),
    numbers: ['width'],
  },
  sensitivityMap: { call: untyped(reports.sensitivityMap, [{ name: 'a', value: 1 }]), numbers: ['width'] },
  layerBars: { call: untyped(reports.layerBars, [{ name: 'a', relativeError: 0.1 }]), numbers: ['width'] },
  indexHistogram: {
    call: untyped(reports.indexHistogram, reports.usageOfCounts([[1, 2]])),
    numbers: ['width'],
  },
  codebookPlot: {
    call: (options) => {
      const layer = layers.quantizeKmeans(weight, {
        bits: 1,
        vectorDim: 2,
        groupSize: 32,
        columnsPerGroup: 8,
      })
      return untyped(reports.codebookPlot, reports.codebookGroup(layer))(options)
    },
    numbers: ['width'],
  },
}

/** Functions of data, names or places alone. */
const withoutOptions = new Set(
  (
    'bfloatToFloat bitsPerValue decodeBfloats decodeCodebooks decodeHalves dequantizeLayer dequantizeScalar ' +
    'driftAccumulator encodeBfloats encodeHalves floatToBfloat floatToHalf halfToFloat matrix packLayer packScalar ' +
    'packedBytes reconstructionError setThreads threadCount unpackLayer unpackScalar allLinearLayers bestWithin blobSource ' +
    'cutWindows dequantize describeDecoder directorySource inspectModel linearLayers loadTokenizer ' +
    'readTokens runDetails startEngine startProducts withQuantizedLayers analysisHtml codebookGroup indexUsage meanUsage ' +
    'paretoFront reportHtml reproduceCommand usageOfCounts trainingDetails'
  ).split(' '),
)

async function refused(call: () => unknown): Promise<unknown> {
  try {
    await call()
    return undefined
  } catch (error) {
    return error instanceof layers.OptionError ? error.option : error
  }
}

test('every public function is known to take options or not', () => {
  const entry: Readonly<Record<string, unknown>> = {
    ...{ ...layers, ...models, ...exports, ...generators, ...reports, ...trainings, startWorker },
  }
  const functions = Object.keys(entry).filter(
    (name) => typeof entry[name] === 'function' && /^[a-z]/.test(name),
  )
  expect(functions.filter((name) => !(name in takers) && !withoutOptions.has(name))).toEqual([])
})

describe.each(Object.entries(takers))(
  '%s',
  (_, { call, numbers = [], with: needed = {}, switches = [], takesNull = false }) => {
    test('refuses an option that there is not', async () => {
      expect(await refused(() => call({ granularty: 1 }))).toBe('granularty')
    })

    test.runIf(numbers.length > 0)('takes no text and no null for a number', async () => {
      for (const option of numbers) {
        for (const value of takesNull ? ['0.5', '8'] : ['0.5', '8', null]) {
          const found = await refused(() => call({ ...needed, [option]: value }))
          expect({ option, value, found }).toEqual({ option, value, found: option })
        }
      }
    })

    test.runIf(switches.length > 0)('takes no text for a switch', async () => {
      for (const option of switches) {
        for (const value of ['no', 1, null])
          expect(await refused(() => call({ [option]: value }))).toBe(option)
      }
    })
  },
)

test('numbers that decide the end of hours of work are finite', async () => {
  const { call } = takers.trainModel
  for (const option of ['clip', 'learningRate', 'weightDecay', 'hiddenWeight']) {
    expect(await refused(() => call({ [option]: Number.POSITIVE_INFINITY }))).toBe(option)
  }
})
