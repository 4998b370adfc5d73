import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import { type Matrix, NumericError } from '../../../src/index.js'
import { embedTokens } from '../../../src/model/decoder/embedding.js'
import { openHead } from '../../../src/model/decoder/head.js'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import { predictionLoss } from '../../../src/model/passes/prediction-loss.js'
import { type OpenModel, openModel, startEngine } from '../../../src/model.js'
import { measureSensitivity } from '../../../src/pipeline/mixed/sensitivity.js'
import type { LayerTrials, Trial } from '../../../src/pipeline/mixed/trials.js'
import { forwardBlocks } from '../../../src/train/loop/passes.js'
import { writeTinyModel } from '../../support/tiny-model.js'

const length = 24
const sequences = Array.from({ length: 8 }, (_, i) =>
  Int32Array.from({ length }, (_, t) => (i * 37 + t * t * 11 + t * i) % 256),
)
const tokens = Int32Array.from(sequences.flatMap((sequence) => Array.from(sequence)))
const pause = async () => {}
let folder: string
let full: OpenModel

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-sensitivity-'))
  await writeTinyModel(folder)
  full = await openModel(folder)
  await startEngine('wasm')
})

afterAll(async () => {
  await full.close()
  await rm(folder, { recursive: true, force: true })
})

const finalStates = async (changed: ReadonlyMap<string, Float32Array> = new Map()) => {
  const { config } = full
  const source = {
    ...full.source,
    floats: async (name: string) => changed.get(name) ?? full.source.floats(name),
  }
  return forwardBlocks({ source, config }, await embedTokens(source, config, tokens), length, pause)
}

/** Random changes of a layer's weights, much smaller than the weights. */
function randomTrial({ rows, cols }: Matrix, seed: number): Trial {
  const random = randomGenerator(seed)
  const size = 0.02 * 2 ** (seed % 4)
  return {
    error: size ** 2,
    change: Float32Array.from({ length: rows * cols }, () => size * cols ** -0.5 * randomNormal(random)),
  }
}

const measure = (tryLayer: (name: string, weight: Matrix) => LayerTrials) =>
  measureSensitivity({
    model: full,
    tokenWeights: 'equal',
    sequences,
    probes: sequences,
    pause,
    onProgress: () => {},
    isTried: () => true,
    tryLayer: async ({ name }, weight) => tryLayer(name, weight),
  })

describe('measureSensitivity', () => {
  it('is the divergence that the trial of one layer brings', async () => {
    const { source, config } = full
    const changes = new Map<string, Float32Array>()
    const before = tf.memory().numTensors
    const predicted = await measure((name, weight) => {
      const trial = randomTrial(weight, changes.size)
      changes.set(name, trial.change)
      return { errors: [[trial.error]], trials: [trial] }
    })
    expect(tf.memory().numTensors).toBe(before)
    const head = await openHead(source, config)
    const teacher = await finalStates()
    for (const { name } of allLinearLayers(config)) {
      const weight = await source.floats(name)
      const changed = weight.map((value, i) => value + changes.get(name)![i])
      const student = await finalStates(new Map([[name, changed]]))
      const found = await predictionLoss(head, student, { teacher: { head, hidden: teacher } })
      const actual = found.divergence / tokens.length
      expect(Math.abs(predicted.get(name)![0][0] / actual - 1)).toBeLessThan(1e-4)
    }
    head.dispose()
  })

  it('gives layers that no trial changes no effect', async () => {
    const effects = await measure((_, weight) => ({
      errors: [[0]],
      trials: [{ error: 0, change: new Float32Array(weight.data.length) }],
    }))
    expect([...effects.values()]).toEqual(allLinearLayers(full.config).map(() => [[0]]))
  })

  it('names the layer whose trial is not finite', async () => {
    const name = 'model.layers.1.mlp.up_proj.weight'
    const error = await measure((of, weight) => ({
      errors: [[1]],
      trials: [{ error: 1, change: weight.data.map(() => (of === name ? Number.POSITIVE_INFINITY : 0)) }],
    })).catch((e) => e)
    expect(error).toBeInstanceOf(NumericError)
    expect(error.message).toMatch(
      /^with model\.layers\.1\.mlp\.up_proj quantized for trial, .*found Infinity/,
    )
  })
})
