import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.js'
import { CheckpointError, OptionError, UnsupportedError } from '../../src/common/errors.js'
import { describeDecoder } from '../../src/model/families/index.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { forwardLogits } from '../../src/model/passes/forward-logits.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import { quantizeModel } from '../../src/pipeline/quantize/quantize-model.js'
import { type DistillModelOptions, distillModel } from '../../src/train/distill-model.js'
import { keepBlocks } from '../../src/train/keep-blocks.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { expectClose } from '../support/tolerance.js'

let place = ''
let teacher = ''

beforeAll(async () => {
  await startEngine('wasm')
  place = await mkdtemp(join(tmpdir(), 'gptvq-distill-'))
  ;({ folder: teacher } = await writeTinyModel(join(place, 'teacher')))
})

afterAll(() => rm(place, { recursive: true, force: true }))

const bytes = Buffer.from(tinyText(24 * 16, 3))
const sequences = Array.from({ length: 24 }, (_, i) => Int32Array.from(bytes.subarray(i * 16, i * 16 + 16)))

let runs = 0
const optionsOf = (changes: Partial<DistillModelOptions>): DistillModelOptions => ({
  teacher,
  output: join(place, `out-${runs++}`),
  text: { sequences },
  engine: 'wasm',
  batch: 4,
  ...changes,
})

describe('distillModel', () => {
  it('brings a student of half the blocks much nearer to its teacher, and writes a model of that size', async () => {
    const options = optionsOf({ keepBlocks: [1], learningRate: 0.02 })
    const { curve, blocks } = await distillModel(options)
    expect(blocks).toBe(1)
    expect(curve.points[curve.kept].heldOut.divergence).toBeLessThan(0.7 * curve.points[0].heldOut.divergence)
    const { config, close } = await openModel(options.output)
    expect(config.blocks).toHaveLength(1)
    await close()
    const output = join(place, `out-${runs++}`)
    const report = await quantizeModel({
      ...{ model: options.output, output, calibration: { sequences }, engine: 'wasm' },
    })
    expect(report.layers).toHaveLength(7)
  })

  it('trains a student of its own folder: the teacher itself has nothing to learn', async () => {
    const { curve } = await distillModel(optionsOf({ student: teacher, epochs: 1 }))
    expect(curve.points[0].heldOut.divergence).toBe(0)
    expect(curve.kept).toBe(0)
  })

  it('brings hidden states nearer to the teacher where they count', async () => {
    const { curve } = await distillModel(optionsOf({ keepBlocks: [1], learningRate: 0.02, hiddenWeight: 1 }))
    const [first, kept] = [curve.points[0].heldOut, curve.points[curve.kept].heldOut]
    expect(first.loss).toBeCloseTo(first.divergence + first.hidden, 6)
    expect(kept.hidden).toBeLessThan(0.7 * first.hidden)
    expect(kept.divergence).toBeLessThan(first.divergence)
    const without = await distillModel(optionsOf({ keepBlocks: [1], epochs: 1 }))
    expect(without.curve.points.map(({ heldOut }) => heldOut.hidden)).toEqual([0, 0])
  })

  it('lets the weights of the student decay', async () => {
    const last = async (weightDecay: number) => {
      const { curve } = await distillModel(optionsOf({ keepBlocks: [1], epochs: 1, weightDecay }))
      return curve.points.at(-1)!.training.loss
    }
    expect(await last(100)).not.toBe(await last(0))
  })

  it('gives the same bytes by the same seed', async () => {
    const run = async () => {
      const options = optionsOf({ keepBlocks: [0], epochs: 1 })
      await distillModel(options)
      return readFile(join(options.output, 'model.safetensors'))
    }
    expect(Buffer.compare(await run(), await run())).toBe(0)
  })

  it('refuses what cannot work before it works', async () => {
    const refuses = (changes: Partial<DistillModelOptions>, error: unknown, what: RegExp) =>
      expect(distillModel(optionsOf(changes))).rejects.toThrow(
        expect.objectContaining({ constructor: error, message: expect.stringMatching(what) }),
      )
    await refuses({}, OptionError, /neither student nor keepBlocks/)
    await refuses({ student: teacher, keepBlocks: [0] }, OptionError, /student and keepBlocks/)
    await refuses({ keepBlocks: [2] }, OptionError, /keepBlocks/)
    await refuses({ keepBlocks: [] }, OptionError, /numbers of blocks/)
    await refuses({ keepBlocks: [1, 1] }, OptionError, /twice/)
    await refuses({ keepBlocks: [0], output: teacher }, OptionError, /output/)
    await refuses({ keepBlocks: [0], hiddenWeight: -1 }, OptionError, /hiddenWeight/)
    await refuses({ keepBlocks: [1, 0], hiddenWeight: 1 }, OptionError, /rising numbers/)
    const quantized = join(place, 'quantized')
    await quantizeModel({ model: teacher, output: quantized, method: 'rtn', bits: 4 })
    await refuses({ student: quantized }, CheckpointError, /is quantized.*trainModel/)
    await refuses({ teacher: quantized, keepBlocks: [0] }, CheckpointError, /is quantized.*made from/)
    const { folder: other } = await writeTinyModel(join(place, 'other'), {
      config: { vocab_size: 256 },
      tensors: (tensors) => {
        for (const name of ['model.embed_tokens.weight', 'lm_head.weight']) {
          tensors.set(name, { shape: [256, 32], values: tensors.get(name)!.values.slice(0, 256 * 32) })
        }
      },
    })
    await refuses({ student: other }, CheckpointError, /vocabulary has 258 tokens.*256/)
  })
})

describe('keepBlocks', () => {
  it('of all blocks is the model itself, and of them in another order its blocks in that order', async () => {
    const { checkpoint, config, source, close } = await openModel(teacher)
    const whole = keepBlocks(checkpoint, config, [0, 1])
    expect([...whole.tensors.keys()]).toEqual([...checkpoint.tensors.keys()])
    const turned = keepBlocks(checkpoint, config, [1, 0])
    const read = (name: string) => turned.readFloats(name)
    expect(await read('model.layers.0.mlp.up_proj.weight')).toEqual(
      await source.floats('model.layers.1.mlp.up_proj.weight'),
    )
    expect(await read('model.norm.weight')).toEqual(await source.floats('model.norm.weight'))
    await close()
  })

  it('writes what runs as the kept blocks alone do', async () => {
    const options = optionsOf({ keepBlocks: [1], epochs: 1, learningRate: 1e-9 })
    await distillModel(options)
    const { source, config, close } = await openModel(teacher)
    const alone = { ...config, blocks: [{ ...config.blocks[1], index: 0 }] }
    const student = await openModel(options.output)
    const expected = await forwardLogits(source, alone, sequences[0], 1)
    const found = await forwardLogits(student.source, student.config, sequences[0], 1)
    // moved by next to nothing, and not by nothing
    expectClose(found, expected, 1e-5)
    await student.close()
    await close()
  })

  it('takes lists of one entry a layer along, and refuses what config.json cannot say', async () => {
    const { checkpoint, config, close } = await openModel(teacher)
    const layer_types = ['full_attention', 'full_attention']
    const text = JSON.stringify({ ...checkpoint.config, layer_types })
    const listed = { ...checkpoint, config: JSON.parse(text), configText: text }
    expect(keepBlocks(listed, config, [1]).config.layer_types).toEqual(['full_attention'])
    const windowed = {
      ...config,
      blocks: config.blocks.map((block, i) =>
        i === 1 ? { ...block, attention: { ...block.attention, window: 8 } } : block,
      ),
    }
    expect(() => keepBlocks(checkpoint, windowed, [1])).toThrow(UnsupportedError)
    await close()
    const again = await openCheckpoint(teacher)
    expect(describeDecoder(again.config, 'config.json').blocks).toHaveLength(2)
    await again.close()
  })
})
