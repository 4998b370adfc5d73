import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEngine } from '../../src/model/ops/engine.js'
import { setPackedActivations } from '../../src/model/ops/kernels/kernel-weights.js'
import { isPrepared } from '../../src/model/ops/weight-forms.js'
import {
  closeCaches,
  type Decoder,
  decodeTokens,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../src/model/passes/cached-decoder.js'
import { type OpenModel, openModel } from '../../src/pipeline/folders/open-model.js'
import { quantizeModel } from '../../src/pipeline/quantize/quantize-model.js'
import { folderOfFile } from '../cli/support.js'
import { expectClose } from '../support/tolerance.js'
import { writeChatModel } from './chat-model.js'

const cheap = { sequences: 2, restarts: 1, refinementRounds: 0, force: true }
const settings = {
  'trellis codes': { bits: 2 },
  'plain codebooks in another order': { bits: 2, trellisBits: 0, columnOrder: 'activation' },
} as const

let model: string

beforeAll(async () => {
  model = await writeChatModel(await folderOfFile())
  await startEngine('wasm')
})

async function logitsOf(decoder: Decoder, tokens: readonly Int32Array[]): Promise<Float32Array[]> {
  const caches = openCaches(decoder, 1, 64)
  const logits: Float32Array[] = []
  for (const own of tokens) logits.push((await decodeTokens(decoder, caches, own)).slice())
  closeCaches(caches)
  return logits
}

describe.each(Object.entries(settings))('a decoder of %s', (_, options) => {
  let opened: OpenModel
  beforeAll(async () => {
    const output = await folderOfFile()
    await quantizeModel({ model, output, ...cheap, ...options })
    opened = await openModel(output)
  })
  afterAll(() => opened.close())

  it('holds quantized layers as they are stored, and predicts what it does with expanded ones', async () => {
    const { source, config, quantization } = opened
    const packed = await loadDecoder(source, config, { keepsPacked: true })
    const expanded = await loadDecoder(source, config)
    const held = packed.blocks.flatMap(({ linears }) => [...linears.values()])
    expect(held.filter(({ weight }) => isPrepared(weight))).toHaveLength(
      Object.keys(quantization!.modules).length,
    )
    const tokens = [Int32Array.from({ length: 20 }, (_, i) => i + 97), Int32Array.of(3), Int32Array.of(5, 7)]
    const [actual, expected] = [await logitsOf(packed, tokens), await logitsOf(expanded, tokens)]
    for (const [i, logits] of expected.entries()) {
      expectClose(
        actual[i],
        logits,
        1e-4 * logits.reduce((most, value) => Math.max(most, Math.abs(value)), 1),
      )
    }
    disposeDecoder(expanded)
    setPackedActivations('int16')
    const rounded = await logitsOf(packed, tokens)
    setPackedActivations('float32')
    disposeDecoder(packed)
    for (const [i, logits] of actual.entries()) {
      const largest = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 1)
      expectClose(rounded[i], logits, 2e-3 * largest)
      expect(rounded[i]).not.toEqual(logits)
    }
  })

  it('loads layers as they are stored by the names of the plain model', async () => {
    const [module] = Object.keys(opened.quantization!.modules)
    expect(await opened.source.packed!(`${module}.weight`)).toBeDefined()
    expect(await opened.source.packed!('model.norm.weight')).toBeUndefined()
  })
})
