import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readQuantization } from '../../src/checkpoint/quantized/quantization.js'
import {
  AbortedError,
  CheckpointError,
  OptionError,
  TextError,
  UnsupportedError,
} from '../../src/common/errors.js'
import { setThreads, threadCount } from '../../src/kernels/kernels.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import { quantizeModel } from '../../src/pipeline/quantize/quantize-model.js'
import { trainModel } from '../../src/train/train-model.js'
import type { TrainModelOptions } from '../../src/train/train-model-options.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { rejectionOf } from '../support/tolerance.js'
import { heldOutOf, lossesOf, trainingSequences } from '../support/training.js'

const threads = threadCount()
let place = ''
let model = ''

beforeAll(async () => {
  await startEngine('wasm')
  place = await mkdtemp(join(tmpdir(), 'gptvq-train-'))
  ;({ folder: model } = await writeTinyModel(join(place, 'model')))
  const plain = { model, output: join(place, 'plain'), calibration: { sequences } }
  // a start that leaves something to gain
  const coarse = { trellisBits: 0, groupSize: 512, tokenWeights: 'equal' } as const
  await quantizeModel({ ...plain, ...coarse, engine: 'wasm' })
})

afterAll(async () => {
  setThreads(threads)
  await rm(place, { recursive: true, force: true })
})

const sequences = trainingSequences()

type Changes = Partial<TrainModelOptions> & Pick<TrainModelOptions, 'method'>

let runs = 0
const optionsOf = (changes: Changes): TrainModelOptions => ({
  model,
  output: join(place, `out-${runs++}`),
  text: { sequences },
  engine: 'wasm',
  epochs: 3,
  batch: 4,
  ...changes,
  ...(changes.start === 'plain' && { start: join(place, 'plain') }),
})

const scalar = {
  ...{ bits: 2, groupSize: 16, learningRate: 0.02, scaleRate: 8, normRate: 8 },
  startMethod: 'rtn',
} as const
const methods = {
  qat: { method: 'qat', ...scalar },
  'lr-qat': { method: 'lr-qat', ...scalar, rank: 4 },
  'scales of a trellis': { method: 'codebooks', learningRate: 0.01 },
  'codebooks and indices': {
    method: 'codebooks',
    learningRate: 0.02,
    normRate: 0.2,
    indexRate: 1,
    start: 'plain',
  },
} satisfies Record<string, Changes>

/** What is left of the divergence on held-out text at most. */
const leaves = { qat: 0.7, 'lr-qat': 0.9, 'scales of a trellis': 0.99, 'codebooks and indices': 0.99 }

async function bytesOf(folder: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  for (const name of await readdir(folder)) {
    files[name] = (await readFile(join(folder, name))).toString('base64')
  }
  return files
}

describe.each(Object.entries<Changes>(methods))('trainModel: %s', (method, changes) => {
  it('lowers the divergence on text held out, and writes what it measured', async () => {
    const before = tf.memory().numTensors
    const options = optionsOf({ ...changes, epochs: 4 })
    const { curve, bitsPerValue } = await trainModel(options)
    expect(tf.memory().numTensors).toBe(before)
    expect(curve.points.map(({ step }) => step)).toEqual([0, 6, 12, 18, 24])
    const heldOut = curve.points.map((point) => point.heldOut.loss)
    expect(curve.kept).toBe(heldOut.indexOf(Math.min(...heldOut)))
    expect(heldOut[curve.kept]).toBeLessThan(leaves[method as keyof typeof leaves] * heldOut[0])
    const found = await lossesOf(options.output, model, heldOutOf(sequences))
    const { divergence, crossEntropy } = curve.points[curve.kept].heldOut
    expect(found.divergence).toBeCloseTo(divergence, 5)
    expect(found.crossEntropy).toBeCloseTo(crossEntropy, 5)
    expect(bitsPerValue).toBeLessThan(5)
  })

  it('gives the same bytes on any number of threads, in one go or resumed', async () => {
    setThreads(1)
    const whole = optionsOf({ ...changes, epochs: 2 })
    await trainModel(whole)
    setThreads(2)
    const checkpoint = join(place, `state-${runs}`)
    const stop = new AbortController()
    const onProgress = ({ step }: { step: string }) => {
      if (/step 9 /.test(step)) stop.abort()
    }
    const parted = optionsOf({ ...changes, epochs: 2, checkpoint })
    await expect(trainModel({ ...parted, onProgress, signal: stop.signal })).rejects.toThrow(AbortedError)
    expect(await readdir(place)).toContain(checkpoint.slice(place.length + 1))
    const { curve } = await trainModel(parted)
    expect(curve.points.map(({ step }) => step)).toEqual([0, 6, 12])
    expect(await bytesOf(parted.output)).toEqual(await bytesOf(whole.output))
    expect(await readdir(place)).not.toContain(checkpoint.slice(place.length + 1))
  })
})

describe('trainModel', () => {
  it('gives other bytes by another seed, and reports progress that never falls', async () => {
    const done: number[] = []
    const one = optionsOf({ ...methods.qat, epochs: 1, onProgress: (progress) => done.push(progress.done) })
    const other = optionsOf({ ...methods.qat, epochs: 1, seed: 1 })
    await trainModel(one)
    await trainModel(other)
    expect(await bytesOf(one.output)).not.toEqual(await bytesOf(other.output))
    expect(done).toEqual(done.toSorted((a, b) => a - b))
    expect(done.at(-1)).toBe(1)
  })

  it('adds up the gradients of several batches to those of one', async () => {
    const common = { ...methods.qat, epochs: 1, clip: 1e-3 }
    const once = await trainModel(optionsOf({ ...common, batch: 8 }))
    const parted = await trainModel(optionsOf({ ...common, batch: 2, accumulation: 4 }))
    const last = ({ curve }: typeof once) => curve.points.at(-1)!.heldOut.loss
    expect(last(parted)).toBeCloseTo(last(once), 4)
    expect(parted.curve.points.at(-1)!.step).toBe(3)
  })

  it('learns the next token from the text alone where no teacher counts', async () => {
    // a text of one token: the loss can fall to 0
    const same = Array.from({ length: 8 }, () => new Int32Array(16).fill(65))
    const options = optionsOf({ ...methods.qat, text: { sequences: same }, distillation: 0, heldOut: 1 / 4 })
    const { curve } = await trainModel(options)
    expect(curve.points[0].heldOut.divergence).toBe(0)
    expect(curve.points[curve.kept].heldOut.crossEntropy).toBeLessThan(
      0.8 * curve.points[0].heldOut.crossEntropy,
    )
  })

  it('keeps the start, to the bit, when training only harms', async () => {
    const start = join(place, 'start')
    await quantizeModel({ model, output: start, method: 'rtn', bits: 2, groupSize: 16 })
    const options = optionsOf({ method: 'qat', start, learningRate: 0.99, patience: 1 })
    const { curve } = await trainModel(options)
    expect(curve.kept).toBe(0)
    const [given, written] = [await bytesOf(start), await bytesOf(options.output)]
    expect(Object.keys(written)).toEqual(Object.keys(given))
    const tensorsOf = async (folder: string) => {
      const { checkpoint, close } = await openModel(folder)
      const tensors: Record<string, Uint8Array> = {}
      for (const name of checkpoint.tensors.keys()) tensors[name] = await checkpoint.readBytes(name)
      await close()
      return tensors
    }
    expect(await tensorsOf(options.output)).toEqual(await tensorsOf(start))
  })

  it.each([
    { name: 'by token', activationRange: 'token', equalization: 'smoothquant' },
    { name: 'in static ranges', activationRange: 'minmax', equalization: 'none', cacheBits: 8 },
  ] as const)('trains with the rounded activations of its start, $name', async ({ name: _, ...ways }) => {
    const start = join(place, `rounded-${runs}`)
    const scalar = { method: 'rtn', bits: 2, groupSize: 16 } as const
    await quantizeModel({
      ...{ model, output: start, calibration: { sequences }, engine: 'wasm' },
      ...{ ...scalar, activationBits: 4, ...ways },
    })
    const options = optionsOf({ method: 'qat', start, learningRate: 0.02, epochs: 4 })
    const { curve } = await trainModel(options)
    const [first, kept] = [curve.points[0].heldOut, curve.points[curve.kept].heldOut]
    expect(kept.divergence).toBeLessThan(0.9 * first.divergence)
    const heldOut = heldOutOf(sequences)
    expect((await lossesOf(start, model, heldOut)).divergence).toBeCloseTo(first.divergence, 4)
    expect((await lossesOf(options.output, model, heldOut)).divergence).toBeCloseTo(kept.divergence, 4)
    const activationsOf = async (folder: string) => {
      const { checkpoint, close } = await openModel(folder)
      await close()
      return readQuantization(checkpoint)!.activations
    }
    expect(await activationsOf(options.output)).toEqual(await activationsOf(start))
  })

  it('counts its memory: low rank needs at most a third of what all weights do', async () => {
    const bytesFor = async (changes: Changes) =>
      (await trainModel(optionsOf({ ...changes, epochs: 1, batch: 21 }))).curve.stateBytes
    const all = await bytesFor({ ...methods.qat, groupSize: 64 })
    const lowRank = await bytesFor({ ...methods['lr-qat'], groupSize: 64 })
    expect(lowRank.trainable).toBeLessThan(all.trainable / 3)
    const weights = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32)
    expect(all.trainable).toBeGreaterThanOrEqual(20 * weights)
    expect(lowRank.frozen).toBeGreaterThanOrEqual(weights)
  })

  it('tunes the scales of a trellis behind quantizeModel too, which keeps the one of the defaults', async () => {
    const { tuning, settings } = await quantizeModel({
      ...{ model, calibration: { sequences }, engine: 'wasm', bits: 2 },
      ...{ tuningEpochs: 4, tuningSequences: 0 },
    })
    expect(settings.trellisBits).toBe(8)
    expect(tuning!.epochs.length).toBeGreaterThan(2)
    expect(tuning!.epochs.at(-1)!.training).not.toBe(tuning!.epochs[0].training)
  })

  it('refuses what cannot work before it works', async () => {
    const refuses = (
      changes: Partial<TrainModelOptions>,
      error: new (...given: never[]) => Error,
      what: RegExp,
    ) =>
      expect(trainModel({ ...optionsOf(methods.qat), ...changes })).rejects.toThrow(
        expect.objectContaining({ constructor: error, message: expect.stringMatching(what) }),
      )
    await refuses({ method: 'lora' as 'qat' }, OptionError, /method: expected one of qat, lr-qat, codebooks/)
    await refuses({ rank: 4 }, OptionError, /rank: is of no use to method 'qat', only to 'lr-qat'/)
    await refuses({ bits: 1 }, OptionError, /bits/)
    await refuses({ distillation: 2 }, OptionError, /distillation/)
    await refuses({ learningRate: 0 }, OptionError, /learningRate/)
    await refuses({ hiddenWeight: Number.NaN }, OptionError, /hiddenWeight/)
    await refuses({ start: model }, OptionError, /bits: is what .* was quantized with/)
    await refuses({ output: model }, OptionError, /output/)
    await refuses({ text: undefined as never }, TextError, /text: expected a text/)
    await refuses({ text: { sequences: sequences.slice(1, 2) } }, TextError, /at least two/)
    await refuses({ other: 1 } as never, OptionError, /other/)
    const vectors = join(place, 'vectors')
    await quantizeModel({ model, output: vectors, calibration: { sequences }, engine: 'wasm' })
    const fromStart = { start: vectors, bits: undefined, groupSize: undefined, startMethod: undefined }
    await refuses(fromStart, UnsupportedError, /layer of vectors.*'codebooks'/)
    await refuses({ model: vectors }, CheckpointError, /is quantized already.*start/)
    await refuses({ ...fromStart, start: model }, CheckpointError, /is not quantized/)
  })

  it('refuses the state of another training, and a teacher of another vocabulary', async () => {
    const checkpoint = join(place, 'other-state')
    const stop = new AbortController()
    const onProgress = ({ step }: { step: string }) => {
      if (/step 8 /.test(step)) stop.abort()
    }
    const first = optionsOf({ ...methods.qat, checkpoint })
    await expect(trainModel({ ...first, onProgress, signal: stop.signal })).rejects.toThrow(AbortedError)
    const changes: [Partial<TrainModelOptions>, string][] = [
      [{ learningRate: 0.03, seed: 5 }, 'seed 0 (now 5), learningRate 0.02 (now 0.03).'],
      [{ text: { sequences: sequences.slice(1) } }, 'another text.'],
      [{ bits: 4 }, 'bits 2 (now 4), other weights to start from.'],
    ]
    for (const [change, words] of changes) {
      const error = await rejectionOf(() => trainModel({ ...first, ...change }))
      expect(error).toBeInstanceOf(OptionError)
      expect((error as Error).message).toContain(
        `checkpoint: ${checkpoint} is the state of another training, begun with ${words} Give the same again`,
      )
    }
    expect(await readdir(place)).toContain('other-state')
    // not to be read is not the same as not to be there
    const blocked = trainModel({ ...first, checkpoint: join(checkpoint, 'state') })
    await expect(blocked).rejects.toThrow(/cannot read the state of the training in .*ENOTDIR/)
    const { folder: teacher } = await writeTinyModel(join(place, 'teacher'), {
      config: { vocab_size: 256 },
      tensors: (tensors) => {
        for (const name of ['model.embed_tokens.weight', 'lm_head.weight']) {
          tensors.set(name, { shape: [256, 32], values: tensors.get(name)!.values.slice(0, 256 * 32) })
        }
      },
    })
    await expect(trainModel(optionsOf({ ...methods.qat, teacher }))).rejects.toThrow(
      /vocabulary has 256 tokens.*258/,
    )
  })
})
