import { createHash } from 'node:crypto'
import { cp, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { CheckpointError } from '../../src/common/errors.js'
import {
  dequantizeModel,
  evaluateModel,
  inspectModel,
  openCheckpoint,
  quantizeModel,
  writeReport,
} from '../../src/model.js'
import { folderOfFile } from '../cli/support.js'
import { addTensor, quantizationOf, withConfig, withWeights } from '../support/edit-model.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'

let folder: string
let vq: string
let rtn: string
const at = (name: string) => join(folder, name)
const module = 'model.layers.0.self_attn.q_proj'

beforeAll(async () => {
  folder = await folderOfFile()
  const { folder: model } = await writeTinyModel(at('model'))
  vq = at('vq')
  rtn = at('rtn')
  await quantizeModel({
    ...{ model, output: vq, calibration: { text: tinyText(600) }, sequences: 4, sequenceLength: 64 },
    ...{ refinementRounds: 0, kmeansIterations: 2, restarts: 1, driftCorrection: 0 },
    ...{ columnOrder: 'activation', scaleBlockSize: 16, groupSize: 512 },
  })
  await quantizeModel({ model, output: rtn, method: 'rtn' })
})

/** Every reader of quantized folders refuses `model`, and says so. */
async function expectRefused(model: string, words: RegExp): Promise<void> {
  const readers = [
    () => inspectModel(model),
    () => dequantizeModel({ model, output: at('never') }),
    () => writeReport({ model, output: at('never.html') }),
    () => evaluateModel({ model, text: { text: tinyText(100) }, context: 16, windows: 1 }),
  ]
  for (const read of readers) {
    const error = await read().then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(words)
  }
}

describe('records and tensors account for each other', () => {
  test.each([
    ['scale_block_size', /vq_scale.* no record/],
    ['permuted', /vq_permutation.* no record/],
  ])('a record without its %s', async (field, words) => {
    const changed = await withConfig(vq, at(`without-${field}`), (config) => {
      expect(quantizationOf(config).modules[module][field]).toBeDefined()
      delete quantizationOf(config).modules[module][field]
    })
    await expectRefused(changed, words)
  })

  test.each([
    ['another shape', { shape: [999, 7] }, /its record asks for U8 999 x/],
    ['an impossible shape', { shape: [2 ** 40, 8192] }, /its record asks for/],
    ['other groups', { rows_per_group: 8 }, /its record asks for/],
    ['other bits', { bits: 1 }, /its record asks for/],
    ['an error that overflows', { relative_error: -1 }, /relative_error is -1, expected a number from 0/],
  ])('a record of %s', async (name, fields, words) => {
    const changed = await withConfig(vq, at(name), (config) => {
      Object.assign(quantizationOf(config).modules[module], fields)
    })
    await expectRefused(changed, words)
  })

  test('a record of a layer that is not there, a layer without its record', async () => {
    const less = await withConfig(rtn, at('less'), (config) => {
      delete quantizationOf(config).modules[module]
    })
    await expectRefused(less, /q_proj\.sq_\w+" is part of a quantized layer, but config.json has no record/)
    const more = await withConfig(rtn, at('more'), (config) => {
      quantizationOf(config).modules['model.layers.9.x'] = quantizationOf(config).modules[module]
    })
    await expectRefused(more, /has no tensor "model.layers.9.x.sq_codes"/)
    const none = await withConfig(rtn, at('none'), (config) => {
      delete config.quantization_config
    })
    await expectRefused(none, /no record/)
  })

  test('a stray tensor of a quantized layer', async () => {
    const stray = await withWeights(vq, at('stray'), (file) =>
      addTensor(file, 'old.vq_indices', 'U8', [1], Buffer.from([1])),
    )
    await expectRefused(stray, /old\.vq_indices" is part of a quantized layer/)
  })

  test('settings that change how the same tensors are read', async () => {
    const changed = await withConfig(rtn, at('transposed'), (config) => {
      // 48 x 32 by groups of 128 has the same tensors as by groups of 64
      quantizationOf(config).modules['model.layers.0.mlp.up_proj'].group_size = 64
    })
    await expectRefused(changed, /was written for other records/)
  })

  test('weights of one folder with the config.json of another', async () => {
    const other = at('other')
    await quantizeModel({ model: at('model'), output: other, method: 'rtn', groupSize: 64 })
    await cp(join(other, 'config.json'), join(await copyOf(rtn, 'mixed'), 'config.json'))
    await expectRefused(at('mixed'), /was written for other records/)
  })

  test('a model with fewer blocks than weights, quantized or plain', async () => {
    const text = { text: tinyText(100) }
    for (const [name, whole] of [
      ['quantized', rtn],
      ['plain', at('model')],
    ]) {
      const fewer = await withConfig(whole, at(`fewer-${name}`), (config) => {
        config.num_hidden_layers = 1
      })
      await expect(evaluateModel({ model: fewer, text, context: 16, windows: 1 })).rejects.toThrow(
        /there are 1 blocks, but the weights hold another/,
      )
    }
  })
})

describe('the digest in the weights', () => {
  test('is SHA-256 of the sorted JSON of the records, in each shard of its own', async () => {
    const sharded = at('sharded')
    await quantizeModel({ model: at('model'), output: sharded, method: 'rtn', maxShardBytes: 20_000 })
    const config = JSON.parse(await readFile(join(sharded, 'config.json'), 'utf8'))
    const records: Record<string, Record<string, unknown>> = config.quantization_config.modules
    const checkpoint = await openCheckpoint(sharded)
    try {
      expect(checkpoint.metadata.size).toBeGreaterThan(2)
      for (const [file, notes] of checkpoint.metadata) {
        const own = Object.keys(records)
          .filter((name) =>
            [...checkpoint.tensors.values()].some(
              (tensor) => tensor.file === file && tensor.name.startsWith(`${name}.`),
            ),
          )
          .sort()
        const text = own.map((name) => {
          const { relative_error: _, ...fields } = records[name]
          const sorted = Object.keys(fields)
            .sort()
            .map((field) => `"${field}":${JSON.stringify(fields[field])}`)
          return `"${name}":{${sorted.join(',')}}`
        })
        const digest = createHash('sha256')
          .update(`{${text.join(',')}}`)
          .digest('hex')
        expect(notes.get('gptvq_records')).toBe(digest)
      }
    } finally {
      await checkpoint.close()
    }
    expect((await inspectModel(sharded)).weights.length).toBeGreaterThan(10)
  })

  test('may be missing: another tool has stored the weights anew', async () => {
    const without = await withWeights(vq, at('without'), ({ header }) => {
      delete (header as Record<string, unknown>).__metadata__
    })
    expect((await inspectModel(without)).quantizedBitsPerValue).toBeGreaterThan(2)
  })
})

async function copyOf(from: string, name: string): Promise<string> {
  await cp(from, at(name), { recursive: true })
  return at(name)
}
