import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { ShapeError } from '../../../src/common/errors.js'
import { forwardKernels } from '../../../src/kernels/forward-kernels.js'
import { openHead } from '../../../src/model/decoder/head.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { randomTensors, smallConfig } from '../reference-forward.js'
import { sourceOf } from '../tiny-llama.js'

const json = { ...smallConfig, num_key_value_heads: 1 }
const config = describeDecoder({ ...json }, 'config.json')

beforeAll(async () => {
  await startEngine('wasm')
})

describe('openHead', () => {
  it('multiplies a large vocabulary by slices, without keeping them, and gets the same logits', async () => {
    const wide = describeDecoder(
      { ...json, tie_word_embeddings: true, vocab_size: 40_000, hidden_size: 1000 },
      'config.json',
    )
    const row = (token: number) => Math.cos(token)
    const reads: number[] = []
    const source: WeightSource = {
      shape: (name) =>
        name === wide.embedding.tensor ? [wide.vocabSize, wide.hiddenSize] : [wide.hiddenSize],
      floats: async () => new Float32Array(wide.hiddenSize).fill(1),
      rows: async (_, first, count) => {
        reads.push(count)
        const rows = new Float32Array(count * 1000)
        for (let i = 0; i < count; i++) rows[i * 1000] = row(first + i)
        return rows
      },
    }
    const before = tf.memory().numTensors
    const head = await openHead(source, wide)
    const hidden = new Float32Array(2000).fill(2)
    hidden[1000] = -2
    const logits = await head.logits(hidden)
    expect(reads.length).toBeGreaterThan(1)
    expect(Math.max(...reads) * 4000).toBeLessThanOrEqual(2 ** 26)
    for (const token of [0, 1, 16_776, 16_777, 39_999]) {
      expect(logits[token]).toBeCloseTo(row(token), 4)
      expect(logits[40_000 + token]).toBeCloseTo(-row(token), 4)
    }
    const { allocate, release } = forwardKernels()
    const target = allocate(logits.length)
    expect(await head.logits(hidden, target)).toBe(target)
    const largest = logits.reduce((most, logit, i) => Math.max(most, Math.abs(logit - target[i])), 0)
    expect(largest).toBeLessThan(1e-6)
    release(target)
    head.dispose()
    expect(tf.memory().numTensors).toBe(before)
  })

  it('holds values of bfloat16 in half the memory, and others as they are', async () => {
    const tensors = randomTensors(json, 5)
    const name = config.head.tensor
    const rounded = tensors.get(name)!.values.map((value) => Math.fround(Math.round(value * 64) / 64))
    const coarse = new Map(tensors).set(name, { ...tensors.get(name)!, values: rounded })
    const hidden = new Float32Array(3 * config.hiddenSize).map((_, i) => Math.sin(i))
    const { allocate } = forwardKernels()
    for (const [given, share] of [
      [coarse, 0.5],
      [tensors, 1],
    ] as const) {
      const plain = await openHead(sourceOf(given), config, { holds: true })
      const expected = await plain.logits(hidden)
      plain.dispose()
      const lengths: number[] = []
      Object.assign(forwardKernels(), {
        allocate(length: number) {
          lengths.push(length)
          return allocate(length)
        },
      })
      const held = await openHead(sourceOf(given), config, { holds: true, keepsPacked: true })
      await held.forEachSlice(() => {})
      Object.assign(forwardKernels(), { allocate })
      expect(lengths).toEqual([share * config.vocabSize * config.hiddenSize])
      const logits = await held.logits(hidden)
      held.dispose()
      const largest = expected.reduce((most, logit) => Math.max(most, Math.abs(logit)), 0)
      const gap = logits.reduce((most, logit, i) => Math.max(most, Math.abs(logit - expected[i])), 0)
      expect(gap).toBeLessThanOrEqual(share === 1 ? 0 : 1e-5 * largest)
    }
  })

  it('refuses hidden states that are not whole rows, and an array of another size for the logits', async () => {
    const head = await openHead(sourceOf(randomTensors(json, 5)), config)
    await expect(head.logits(new Float32Array(13))).rejects.toThrow(ShapeError)
    await expect(head.logits(new Float32Array(config.hiddenSize), new Float32Array(3))).rejects.toThrow(
      ShapeError,
    )
    head.dispose()
  })
})
