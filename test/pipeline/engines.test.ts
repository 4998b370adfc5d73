import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type EngineName,
  type Evaluation,
  evaluateModel,
  type QuantizeModelOptions,
  quantizeModel,
  startEngine,
} from '../../src/model.js'
import { availableEngines } from '../support/engines.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'

const engines = await availableEngines()
let folder: string
let model: string
let onWasm: Evaluation

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-engines-'))
  model = join(folder, 'model')
  await writeTinyModel(model)
  await quantize('wasm', 'wasm')
  onWasm = await evaluate('wasm', 'wasm')
})

afterAll(() => rm(folder, { recursive: true, force: true }))

function evaluate(name: string, engine: EngineName): Promise<Evaluation> {
  const text = { text: tinyText(1000, 5) }
  return evaluateModel({ model: join(folder, name), reference: model, text, context: 32, engine })
}

function quantize(engine: EngineName, name: string, options: Partial<QuantizeModelOptions> = {}) {
  return quantizeModel({
    model,
    output: join(folder, name),
    calibration: { text: tinyText(1500, 3) },
    sequences: 12,
    sequenceLength: 32,
    bits: 3,
    engine,
    ...options,
  })
}

describe.each(engines.filter((engine) => engine !== 'wasm'))('a model on the engine %s', (engine) => {
  it('scores as on the engine wasm, up to float32 rounding', async () => {
    const scores = await evaluate('wasm', engine)
    expect(tf.getBackend()).toBe(engine)
    expect(Math.abs(scores.perplexity / onWasm.perplexity - 1)).toBeLessThan(1e-6)
    expect(Math.abs(scores.klDivergence! / onWasm.klDivergence! - 1)).toBeLessThan(1e-5)
    expect(onWasm.klDivergence).toBeGreaterThan(0.001)
  })

  it('quantized twice has the same bytes, and is as good as on the engine wasm', async () => {
    const names = ['first', 'second'].map((name) => `${engine}-${name}`)
    for (const name of names) await quantize(engine, name)
    const [first, second] = names.map((name) => join(folder, name))
    for (const file of await readdir(first)) {
      expect(await readFile(join(second, file))).toEqual(await readFile(join(first, file)))
    }
    const { klDivergence } = await evaluate(names[0], 'wasm')
    // rounding moves a weight here and there to another centroid, and what follows with it
    expect(Math.abs(klDivergence! / onWasm.klDivergence! - 1)).toBeLessThan(0.1)
  })
})

describe('tuning', () => {
  // plain JavaScript would take half a minute
  it.each(engines.filter((engine) => engine !== 'cpu'))(
    'lowers the divergence by gradients of the engine %s, and leaves no tensors behind',
    async (engine) => {
      await startEngine(engine)
      const before = tf.memory().numTensors
      const { tuning } = await quantize(engine, `${engine}-tuned`, { tuningEpochs: 1 })
      const [untuned, tuned] = tuning!.epochs
      expect(tuned.training).toBeLessThan(untuned.training)
      expect(tf.memory().numTensors).toBe(before)
    },
  )
})
