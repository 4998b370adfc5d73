import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.js'
import { encodeFloats } from '../../src/checkpoint/dtype.js'
import { createCheckpointWriter } from '../../src/checkpoint/output/checkpoint-writer.js'
import { CheckpointError, OptionError } from '../../src/common/errors.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { type QuantizeModelOptions, quantizeModel } from '../../src/pipeline/quantize/quantize-model.js'
import { trainModel } from '../../src/train/train-model.js'
import type { TrainModelOptions } from '../../src/train/train-model-options.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { heldOutOf, lossesOf, trainingSequences } from '../support/training.js'

let place = ''
let model = ''

beforeAll(async () => {
  await startEngine('wasm')
  place = await mkdtemp(join(tmpdir(), 'gptvq-starts-'))
  ;({ folder: model } = await writeTinyModel(join(place, 'model')))
})

afterAll(() => rm(place, { recursive: true, force: true }))

const sequences = trainingSequences()
const heldOut = heldOutOf(sequences)

let runs = 0
const trained = async (changes: Partial<TrainModelOptions>) => {
  const output = join(place, `out-${runs++}`)
  const common = { model, output, text: { sequences }, engine: 'wasm', method: 'qat', batch: 8 } as const
  return trainModel({ ...common, epochs: 1, ...changes })
}
const quantized = async (changes: Partial<QuantizeModelOptions>) => {
  const output = join(place, `start-${runs++}`)
  const scalar = { method: 'rtn', bits: 2, groupSize: 16 } as const
  await quantizeModel({
    ...{ model, output, engine: 'wasm', ...scalar },
    ...(changes.equalization && { calibration: { sequences } }),
    ...changes,
  } as QuantizeModelOptions)
  return output
}

const still = { learningRate: 1e-9 }

async function configOf(folder: string) {
  return JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
}

/** As of a folder that does not say what it was made of. */
async function forgetOrigin(folder: string): Promise<void> {
  const config = await configOf(folder)
  delete config.quantization_config.run
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
}

async function tensorsOf(folder: string): Promise<Record<string, Uint8Array>> {
  const checkpoint = await openCheckpoint(folder)
  const tensors: Record<string, Uint8Array> = {}
  for (const name of checkpoint.tensors.keys()) tensors[name] = await checkpoint.readBytes(name)
  await checkpoint.close()
  return tensors
}

/** A copy of the model in bfloat16. */
async function halvedModel(): Promise<string> {
  const folder = join(place, 'halved')
  const checkpoint = await openCheckpoint(model)
  const writer = await createCheckpointWriter(folder)
  for (const [name, { shape }] of checkpoint.tensors) {
    await writer.add(name, 'BF16', shape, encodeFloats('BF16', await checkpoint.readFloats(name)))
  }
  for (const file of ['config.json', 'tokenizer.json']) await writer.copyFile(join(model, file))
  await writer.finish()
  await checkpoint.close()
  return folder
}

describe('the start of trainModel', () => {
  it('is measured as what it is, with the norms that an earlier training gave it', async () => {
    const rates = { bits: 2, groupSize: 16, learningRate: 0.02, normRate: 8, startMethod: 'rtn' } as const
    const first = await trained({ ...rates, batch: 4, epochs: 3 })
    expect(first.curve.kept).toBeGreaterThan(0)
    const { curve } = await trained({ start: first.output, ...still })
    const { divergence } = await lossesOf(first.output, model, heldOut)
    expect(curve.points[0].heldOut.divergence).toBeCloseTo(divergence, 5)
    expect(curve.points[0].heldOut.divergence).toBeCloseTo(
      first.curve.points[first.curve.kept].heldOut.divergence,
      5,
    )
    const unmoved = await trained({ start: first.output, ...still, normRate: 0 })
    expect((await lossesOf(unmoved.output, model, heldOut)).divergence).toBeCloseTo(divergence, 5)
  })

  it('is measured with the embedding and head that it rounded', async () => {
    const start = await quantized({ bits: 8, embeddingBits: 4, headBits: 4 })
    const { curve, output } = await trained({ start, ...still })
    const { divergence } = await lossesOf(start, model, heldOut)
    expect(divergence).toBeGreaterThan(0.001)
    expect(curve.points[0].heldOut.divergence).toBeCloseTo(divergence, 4)
    expect((await lossesOf(output, model, heldOut)).divergence).toBeCloseTo(
      curve.points[curve.kept].heldOut.divergence,
      4,
    )
  })

  it('keeps norms that the bfloat16 of the model does not hold, to the bit, where training only harmed', async () => {
    const halved = await halvedModel()
    const start = await quantized({})
    await forgetOrigin(start)
    const { curve, output } = await trained({ model: halved, start, learningRate: 0.99, patience: 1 })
    expect(curve.kept).toBe(0)
    const ofBlocks = async (folder: string) =>
      Object.entries(await tensorsOf(folder)).filter(([name]) => name.startsWith('model.layers.'))
    expect(await ofBlocks(output)).toEqual(await ofBlocks(start))
  })

  it('is refused where it was made of another model, and told of where it does not say', async () => {
    const { folder: other } = await writeTinyModel(join(place, 'other'), { seed: 2 })
    const start = await quantized({ model: other })
    await expect(trained({ start })).rejects.toThrow(
      expect.objectContaining({
        constructor: CheckpointError,
        message: expect.stringMatching(/was made of other weights than those of .*SHA-256/),
      }),
    )
    await forgetOrigin(start)
    const { notes } = await trained({ model: other, start, ...still })
    expect(notes.join()).toContain('does not say which weights it was made of')
  })

  it('is named in the record of the run by its hash, as another teacher is', async () => {
    const { folder: teacher } = await writeTinyModel(join(place, 'teacher'), { seed: 3 })
    const start = await quantized({})
    const { output } = await trained({ start, teacher, ...still })
    const hashOf = async (folder: string) =>
      createHash('sha256')
        .update(await readFile(join(folder, 'model.safetensors')))
        .digest('hex')
    const { run } = (await configOf(output)).quantization_config
    expect(run).toMatchObject({
      weights: await hashOf(model),
      start: await hashOf(start),
      teacher: await hashOf(teacher),
    })
    const alone = await configOf((await trained({ bits: 4, ...still })).output)
    expect(Object.keys(alone.quantization_config.run)).not.toEqual(expect.arrayContaining(['start']))
    expect(Object.keys(alone.quantization_config.run)).not.toEqual(expect.arrayContaining(['teacher']))
  })

  it('says by its bits how many a frozen weight has', async () => {
    const frozenFor = async (bits: number) => {
      const start = await quantized({ bits, embeddingBits: 8 })
      const { settings } = await trained({ method: 'lr-qat', rank: 4, start, ...still })
      return settings.training
    }
    expect(await frozenFor(2)).toMatchObject({ frozenBits: 8 })
    expect(await frozenFor(5)).toMatchObject({ frozenBits: 16 })
    // what only says how to make a start is not told of one that was given
    expect(Object.keys((await frozenFor(2)) as object)).not.toContain('bits')
  })
})

describe('options of trainModel', () => {
  it('refuse factors that are no thinner than a layer, by its name', async () => {
    const error = {
      constructor: OptionError,
      message: expect.stringMatching(/rank: expected at most 16, .*k_proj.*16 x 32/),
    }
    const changes = { method: 'lr-qat', rank: 1e9 } as const
    await expect(trained(changes)).rejects.toThrow(expect.objectContaining(error))
    await expect(trained({ ...changes, start: await quantized({}) })).rejects.toThrow(
      expect.objectContaining(error),
    )
  })

  it('let weights decay where they have values of their own, and are refused for codebooks', async () => {
    for (const method of ['qat', 'lr-qat'] as const) {
      const rates = { method, bits: 2, learningRate: 0.05, epochs: 2, batch: 4 } as const
      const rank = method === 'lr-qat' ? { rank: 4 } : {}
      const last = async (weightDecay: number) =>
        (await trained({ ...rates, ...rank, weightDecay })).curve.points.at(-1)!.training.loss
      expect(await last(5)).not.toBe(await last(0))
    }
    await expect(trained({ method: 'codebooks', weightDecay: 0.1 })).rejects.toThrow(
      /weightDecay: is of no use to method 'codebooks', only to 'qat' and 'lr-qat'/,
    )
  })

  it('name the bound of a decay, which depends on the learning rate, and want a finite clip', async () => {
    await expect(trained({ weightDecay: 1000 })).rejects.toThrow(
      /weightDecay: expected a number from 0 to below 1 \/ learningRate, here 100: .*got 1000/,
    )
    await expect(trained({ clip: Number.POSITIVE_INFINITY })).rejects.toThrow(
      /clip: expected a finite number above 0, got Infinity/,
    )
  })
})
