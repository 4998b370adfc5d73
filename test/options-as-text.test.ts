import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type VqOptions, vqOptionNames } from '../src/gptvq/options.js'
import { OptionError, quantizeLayer } from '../src/index.js'
import { type QuantizeModelOptions, quantizeModel } from '../src/model.js'
import { quantizeModelOptionNames } from '../src/pipeline/quantize/quantize-model-options.js'
import { gaussianMatrix, randomHessian } from './support/random-matrix.js'
import { tinyText, writeTinyModel } from './support/tiny-model.js'
import { rejectionOf } from './support/tolerance.js'

/** A number that each numeric option of a layer takes, with what goes with it. */
const layerNumbers: Readonly<Record<string, VqOptions>> = {
  vectorDim: { vectorDim: 2 },
  bits: { bits: 2 },
  trellisBits: { trellisBits: 3 },
  groupSize: { groupSize: 4096 },
  columnsPerGroup: { columnsPerGroup: 64 },
  bpv: { bits: 2, bpv: 3 },
  codebookBits: { codebookBits: 8 },
  scaleBlockSize: { scaleBlockSize: 32 },
  kmeansIterations: { kmeansIterations: 2 },
  kmeansTolerance: { kmeansTolerance: 0.5 },
  restarts: { restarts: 1 },
  damping: { damping: 0.1 },
  codebookUpdateSteps: { codebookUpdateSteps: 1 },
  refinementRounds: { refinementRounds: 1 },
  refinementTolerance: { refinementTolerance: 0.1 },
  seed: { seed: 1 },
}
/** Options of a layer whose values are words. */
const layerWords = ['indexWidths', 'columnOrder', 'kmeansInit', 'vectorMetric']

const rtn = { method: 'rtn', calibration: undefined } as const
/** The same for what a whole model has besides. */
const modelNumbers: Readonly<Record<string, Partial<QuantizeModelOptions>>> = {
  ...layerNumbers,
  scaleCandidates: { ...rtn, scaleSearch: 'mse', scaleCandidates: 3 },
  activationBits: { activationBits: 8 },
  cacheBits: { cacheBits: 8 },
  activationPercentile: { activationBits: 8, activationRange: 'percentile', activationPercentile: 90 },
  equalizationStrength: { equalization: 'smoothquant', equalizationStrength: 0.5 },
  sequences: { sequences: 1 },
  sequenceLength: { sequenceLength: 16 },
  driftCorrection: { driftCorrection: 0.5 },
  embeddingBits: { embeddingBits: 8 },
  headBits: { headBits: 8 },
  tuningEpochs: { tuningEpochs: 1 },
  tuningSequences: { tuningEpochs: 1, tuningSequences: 1 },
  maxShardBytes: { maxShardBytes: 1e9 },
  memory: { memory: 1e9 },
  threads: { threads: 1 },
}
const switches = ['force', 'resume']
/** Options whose values are words, paths, patterns, functions or objects. */
const modelWords = [
  ...layerWords,
  ...['granularity', 'grid', 'scaleSearch', 'activationRange', 'activationGrid', 'equalization', 'scheme'],
  ...['model', 'output', 'method', 'calibration', 'layerOrder', 'tokenWeights', 'skip', 'set'],
  ...['embeddingMethod', 'headMethod', 'unfinished', 'engine', 'products', 'redis', 'shared'],
  ...['onProgress', 'onLayer', 'signal'],
]

const valueIn = (options: object, name: string) => (options as Readonly<Record<string, unknown>>)[name]
const asText = (options: object, name: string): object => ({
  ...options,
  [name]: String(valueIn(options, name)),
})
const asNull = (options: object, name: string): object => ({ ...options, [name]: null })

describe('an option of a layer', () => {
  const [weight, hessian] = [gaussianMatrix(16, 64, 1), randomHessian(64, 200, 2)]

  it('is a number or a word', () => {
    expect([...Object.keys(layerNumbers), ...layerWords].sort()).toEqual(Object.keys(vqOptionNames).sort())
  })

  const refusal = async (name: string, options: object) => {
    const error = await rejectionOf(() => quantizeLayer(weight, hessian, options))
    expect(error).toBeInstanceOf(OptionError)
    expect((error as OptionError).option).toBe(name)
    return (error as Error).message
  }

  it.each(Object.entries({ ...layerNumbers, tokens: { tokens: 200 } }))(
    '%s is refused as text and as null, and taken as a number',
    async (name, options) => {
      const text = String(valueIn(options, name))
      expect(await refusal(name, asText(options, name))).toContain(`got "${text}"`)
      expect(await refusal(name, asNull(options, name))).toMatch(/got null/)
      await quantizeLayer(weight, hessian, options)
    },
  )
})

describe('an option of a model', () => {
  let folder: string
  let base: QuantizeModelOptions
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gptvq-text-'))
    const model = join(folder, 'model')
    await writeTinyModel(model)
    base = { model, output: join(folder, 'output'), calibration: { text: tinyText(600) } }
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  it('is a number, true or false, or something else', () => {
    const listed = [...Object.keys(modelNumbers), ...switches, ...modelWords]
    expect(listed.sort()).toEqual(Object.keys(quantizeModelOptionNames).sort())
  })

  const refusal = async (name: string, options: object) => {
    const error = await rejectionOf(() => quantizeModel({ ...base, ...options }))
    expect(error).toBeInstanceOf(OptionError)
    expect((error as OptionError).option).toBe(name)
    return (error as Error).message
  }

  it.each(Object.entries(modelNumbers))('%s is refused as text and as null', async (name, options) => {
    expect(await refusal(name, asText(options, name))).toMatch(/"[\d.e]+"/)
    expect(await refusal(name, asNull(options, name))).toMatch(/null/)
  })

  it.each(switches)("%s is refused as 'false', which would mean yes, as 1 and as null", async (name) => {
    for (const value of ['false', 1, null]) {
      const shown = JSON.stringify(value)
      expect(await refusal(name, { [name]: value })).toBe(`${name}: expected true or false, got ${shown}`)
    }
  })
})
