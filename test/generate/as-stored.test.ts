import { beforeAll, describe, expect, it } from 'vitest'
import { CheckpointError } from '../../src/common/errors.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { isPrepared } from '../../src/model/ops/weight-forms.js'
import {
  closeCaches,
  decodeSteps,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../src/model/passes/cached-decoder.js'
import { forwardLogits } from '../../src/model/passes/forward-logits.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import { type QuantizeModelOptions, quantizeModel } from '../../src/pipeline/quantize/quantize-model.js'
import { folderOfFile } from '../cli/support.js'
import { type KernelArrays, watchKernelArrays } from '../support/kernel-arrays.js'
import { writeTinyModel } from '../support/tiny-model.js'

let model: string
let arrays: KernelArrays
beforeAll(async () => {
  model = (await writeTinyModel(await folderOfFile())).folder
  await startEngine('wasm')
  arrays = watchKernelArrays()
})

const cheap = { sequences: 2, restarts: 1, refinementRounds: 0 }
const settings: readonly (readonly [string, Partial<QuantizeModelOptions>])[] = [
  ['a trellis, and rounded head and embedding', { bits: 2, headBits: 8, embeddingBits: 4, ...cheap }],
  [
    'head and embedding by GPTVQ',
    { bits: 2, headBits: 2, headMethod: 'gptvq', embeddingBits: 3, embeddingMethod: 'gptvq', ...cheap },
  ],
  ['scalar codes', { method: 'rtn', bits: 4, groupSize: 16 }],
  ['symmetric codes of channels', { method: 'rtn', bits: 8, grid: 'symmetric', granularity: 'channel' }],
]

describe.each(settings)('layers held as they are stored: %s', (_, options) => {
  it('are multiplied by without being expanded, and give the logits of the dequantized model', async () => {
    const output = await folderOfFile()
    await quantizeModel({ model, output, force: true, ...options })
    const { source, config, quantization, close } = await openModel(output)
    const before = arrays.inUse()
    const decoder = await loadDecoder(source, config, { keepsPacked: true })
    let packed = 0
    for (const { linears } of decoder.blocks) {
      for (const { weight, rows, cols } of linears.values()) {
        if (!isPrepared(weight)) continue
        packed++
        expect(weight).toMatchObject({ rows, cols })
      }
    }
    const ends = Object.keys(quantization!.modules).filter((name) => !name.includes('layers')).length
    expect(packed).toBe(Object.keys(quantization!.modules).length - ends)

    const tokens = Int32Array.from({ length: 12 }, (_, i) => (i * 37) % 250)
    const full = await forwardLogits(source, config, tokens, 1)
    const range = full.reduce((most, logit) => Math.max(most, Math.abs(logit)), 0)
    const caches = openCaches(decoder, 1, 12)
    // a prompt, then tokens one by one: two kinds of products
    for (const [first, end] of [[0, 9], ...[9, 10, 11].map((at) => [at, at + 1])]) {
      const step = { caches, tokens: tokens.subarray(first, end), span: 12, predicts: true }
      const logits = await decodeSteps(decoder, [step])
      const expected = full.subarray((end - 1) * config.vocabSize, end * config.vocabSize)
      for (const [i, logit] of logits.entries()) {
        expect(Math.abs(logit - expected[i])).toBeLessThan(1e-5 * range)
      }
    }
    closeCaches(caches)
    disposeDecoder(decoder)
    expect(arrays.inUse()).toBe(before)
    await close()
  })
})

it('a layer whose arrays do not fit together is told by its name', async () => {
  const output = await folderOfFile()
  await quantizeModel({ model, output, force: true, method: 'rtn', bits: 4, groupSize: 16 })
  const opened = await openModel(output)
  const name = 'model.layers.1.mlp.up_proj.weight'
  const stored = await opened.source.packed!(name)
  expect(stored).toMatchObject({ rows: 48, cols: 32, bits: 4 })
  expect(await opened.source.packed!('model.norm.weight')).toBeUndefined()
  const record = opened.quantization!.modules['model.layers.1.mlp.up_proj']
  Object.assign(record, { group_size: 8 })
  await expect(opened.source.packed!(name)).rejects.toThrow(CheckpointError)
  await expect(opened.source.packed!(name)).rejects.toThrow(
    /up_proj: scales: found 96 elements, .* needs 192.*quantize the model/,
  )
  await opened.close()
})
