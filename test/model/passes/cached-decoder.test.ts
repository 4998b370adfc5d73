import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { NumericError, ShapeError } from '../../../src/common/errors.js'
import { randomGenerator } from '../../../src/common/random.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { useEngineProducts, useOwnProducts } from '../../../src/model/ops/tensors/products.js'
import {
  cacheBytes,
  closeCaches,
  decodeTokens,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../../src/model/passes/cached-decoder.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { type KernelArrays, watchKernelArrays } from '../../support/kernel-arrays.js'
import { randomTensors, smallConfig } from '../reference-forward.js'
import { sourceOf } from '../tiny-llama.js'

const grouped = { ...smallConfig, num_attention_heads: 4, num_key_value_heads: 2, attention_bias: true }
const windowed = { ...smallConfig, model_type: 'mistral' as const, sliding_window: 4 }

let arrays: KernelArrays
beforeAll(async () => {
  await startEngine('wasm')
  arrays = watchKernelArrays()
})
const inUse = () => [tf.memory().numTensors, arrays.inUse()]

const engines = [
  ['the kernels', useOwnProducts],
  ["the engine's own operations", useEngineProducts],
] as const

describe.each(engines)('decodeTokens on %s', (_, products) => {
  beforeAll(() => {
    products()
    return useOwnProducts
  })

  it.each([
    ['grouped heads and biases', grouped],
    ['a sliding window', windowed],
  ])('gives the logits of the full forward pass at every position: %s', async (_, json) => {
    const config = describeDecoder({ ...json }, 'config.json')
    const source = sourceOf(randomTensors(json, 4))
    const [batch, length] = [3, 19]
    const random = randomGenerator(9)
    const tokens = Int32Array.from({ length: batch * length }, () => Math.floor(random() * config.vocabSize))
    const full = await forwardLogits(source, config, tokens, batch)
    const before = inUse()
    const decoder = await loadDecoder(source, config)
    const caches = openCaches(decoder, batch, length)
    for (let position = 0; position < length; position++) {
      const column = Int32Array.from({ length: batch }, (_, i) => tokens[i * length + position])
      const logits = await decodeTokens(decoder, caches, column)
      for (let i = 0; i < batch; i++) {
        const start = (i * length + position) * config.vocabSize
        for (let token = 0; token < config.vocabSize; token++) {
          expect(Math.abs(logits[i * config.vocabSize + token] - full[start + token])).toBeLessThan(1e-5)
        }
      }
    }
    closeCaches(caches)
    disposeDecoder(decoder)
    expect(inUse()).toEqual(before)
  })

  it('names the position of an overflow, counted from the start of the text', async () => {
    const config = describeDecoder({ ...grouped }, 'config.json')
    const before = inUse()
    const loaded = await loadDecoder(sourceOf(randomTensors(grouped, 4)), config)
    const embed = async (tokens: Int32Array) => {
      const hidden = await loaded.embed(tokens)
      return hidden.map((value, i) => (tokens[Math.floor(i / config.hiddenSize)] === 5 ? Infinity : value))
    }
    const decoder = { ...loaded, embed }
    const caches = openCaches(decoder, 2, 8)
    await decodeTokens(decoder, caches, Int32Array.of(1, 2, 3, 1, 2, 3))
    const failed = await decodeTokens(decoder, caches, Int32Array.of(1, 5)).catch((error) => error)
    expect(failed).toBeInstanceOf(NumericError)
    expect(failed.message).toMatch(/^block 0: .* in sequence 1 of the batch, position 3/)
    closeCaches(caches)
    disposeDecoder(decoder)
    expect(inUse()).toEqual(before)
  })
})

describe('cacheBytes', () => {
  it.each(['float32', 'int8'] as const)(
    'counts the arrays that caches in %s are made of',
    async (precision) => {
      const config = describeDecoder({ ...grouped }, 'config.json')
      const decoder = await loadDecoder(sourceOf(randomTensors(grouped, 4)), config)
      const caches = openCaches(decoder, 1, 11, precision)
      const buffers = (value: unknown): ArrayBufferView[] => {
        if (ArrayBuffer.isView(value)) return [value]
        if (typeof value !== 'object' || value === null) return []
        return 'codes' in value && 'scales' in value
          ? [value.codes as Int8Array, value.scales as Float32Array]
          : Object.values(value).flatMap(buffers)
      }
      const bytes = caches.flatMap(buffers).reduce((sum, { byteLength }) => sum + byteLength, 0)
      expect(bytes).toBeGreaterThan(0)
      expect(cacheBytes(config, 11, precision)).toBe(bytes)
      closeCaches(caches)
      disposeDecoder(decoder)
    },
  )
})

describe('loadDecoder', () => {
  it('frees what it had loaded when a later block cannot be', async () => {
    const tensors = randomTensors(grouped, 4)
    tensors.get('model.layers.1.mlp.up_proj.weight')!.values[3] = Number.NaN
    const before = inUse()
    const loading = loadDecoder(sourceOf(tensors), describeDecoder({ ...grouped }, 'config.json'))
    await expect(loading).rejects.toThrow(NumericError)
    expect(inUse()).toEqual(before)
  })
})

describe.each(engines)('a cache of %s', (_, products) => {
  it('refuses more tokens than it has room for, other sequences, and to be used once it is closed', async () => {
    products()
    const before = inUse()
    const config = describeDecoder({ ...grouped }, 'config.json')
    const decoder = await loadDecoder(sourceOf(randomTensors(grouped, 4)), config)
    const caches = openCaches(decoder, 2, 3)
    await decodeTokens(decoder, caches, Int32Array.of(1, 2, 1, 2))
    await expect(decodeTokens(decoder, caches, Int32Array.of(1, 2, 1, 2))).rejects.toThrow(
      /2 sequences of 2 more tokens do not fit the cache of 2 sequences, with 2 of 3 positions taken/,
    )
    expect(caches[0].positions).toBe(2)
    await decodeTokens(decoder, caches, Int32Array.of(3, 3))
    closeCaches(caches)
    await expect(decodeTokens(decoder, caches, Int32Array.of(1, 2))).rejects.toThrow(ShapeError)
    disposeDecoder(decoder)
    expect(inUse()).toEqual(before)
    useOwnProducts()
  })
})
