import { readFile } from 'node:fs/promises'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { randomGenerator } from '../../../src/common/random.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { availableEngines } from '../../support/engines.js'
import { type ReferenceConfig, randomTensors, referenceForward, smallConfig } from '../reference-forward.js'
import { openTinyLlama, sourceOf, tinyLlamaFolder } from '../tiny-llama.js'

const engines = await availableEngines()

const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 32,
}

const variants: Record<string, Partial<ReferenceConfig> & { length?: number }> = {
  'as many key-value heads as heads': {},
  'three heads to a key-value head, tied': {
    num_attention_heads: 6,
    num_key_value_heads: 2,
    head_dim: 2,
    tie_word_embeddings: true,
  },
  'all heads on one key-value head': { num_attention_heads: 4, num_key_value_heads: 1, head_dim: 4 },
  'biases everywhere': { attention_bias: true, mlp_bias: true },
  'heads wider than hidden / heads': { num_attention_heads: 3, num_key_value_heads: 3, head_dim: 10 },
  'odd sizes, one layer': {
    hidden_size: 9,
    intermediate_size: 7,
    head_dim: 2,
    vocab_size: 5,
    num_hidden_layers: 1,
  },
  'llama3 rotary scaling': { rope_scaling: llama3, rope_theta: 500, head_dim: 16 },
  'linear rotary scaling': { rope_scaling: { rope_type: 'linear', factor: 4 } },
  'mistral with a window shorter than the text': { model_type: 'mistral', sliding_window: 5 },
  'mistral without a window': { model_type: 'mistral' },
  'longer than a chunk of queries': {
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 4,
    num_hidden_layers: 1,
    max_position_embeddings: 1024,
    length: 530,
  },
  'longer than a chunk of queries, with a window': {
    model_type: 'mistral',
    sliding_window: 100,
    head_dim: 4,
    num_hidden_layers: 1,
    max_position_embeddings: 1024,
    length: 530,
  },
}

describe.each(engines)('the forward pass on the engine %s', (engine) => {
  beforeAll(async () => {
    expect(await startEngine(engine)).toBe(engine)
  })

  it.each(Object.entries(variants))('equals a brute-force float64 pass: %s', async (_, variant) => {
    const { length = 13, ...fields } = variant
    const json: ReferenceConfig = { ...smallConfig, ...fields }
    const batch = length > 100 ? 1 : 3
    const tensors = randomTensors(json, length)
    const random = randomGenerator(3)
    const tokens = Int32Array.from({ length: batch * length }, () => Math.floor(random() * json.vocab_size))
    const config = describeDecoder({ ...json }, 'config.json')
    const logits = await forwardLogits(sourceOf(tensors), config, tokens, batch)
    const expected = Array.from(
      { length: batch },
      (_, i) =>
        referenceForward(json, tensors, Array.from(tokens.subarray(i * length, (i + 1) * length))).logits,
    ).flat(2)
    expect(largestGap(logits, expected)).toBeLessThan(2e-5 * largestOf(expected))
    expect(largestOf(expected)).toBeGreaterThan(0.5)
  })

  it('equals the recorded logits of an independent implementation within 5e-5 on the embedded model', async () => {
    const { source, config } = await openTinyLlama()
    const recorded: Recorded = JSON.parse(await readFile(`${tinyLlamaFolder}logits.json`, 'utf8'))
    const logits = await forwardLogits(source, config, Int32Array.from(recorded.ids), 1)
    for (const { position, sum, sumsq, top } of recorded.positions) {
      const row = Array.from(logits.subarray(position * config.vocabSize, (position + 1) * config.vocabSize))
      for (const [token, value] of top) expect(Math.abs(row[token] - value)).toBeLessThan(5e-5)
      const ranked = row.map((_, token) => token).sort((a, b) => row[b] - row[a])
      expect(ranked.slice(0, top.length)).toEqual(top.map(([token]) => token))
      expect(row.reduce((total, x) => total + x, 0) / sum).toBeCloseTo(1, 5)
      expect(row.reduce((total, x) => total + x * x, 0) / sumsq).toBeCloseTo(1, 5)
    }
    expect(recorded.positions.length).toBeGreaterThan(3)
  })

  it('leaves no tensor behind', async () => {
    const tensors = randomTensors(smallConfig, 1)
    const before = tf.memory().numTensors
    await forwardLogits(
      sourceOf(tensors),
      describeDecoder({ ...smallConfig }, 'config.json'),
      Int32Array.of(1, 2),
      1,
    )
    expect(tf.memory().numTensors).toBe(before)
  })
})

describe('the engines', () => {
  it('agree with each other within float32 rounding', async () => {
    const tensors = randomTensors(smallConfig, 8)
    const config = describeDecoder({ ...smallConfig }, 'config.json')
    const tokens = Int32Array.from({ length: 40 }, (_, i) => (i * 7) % smallConfig.vocab_size)
    const results: Float32Array[] = []
    for (const engine of engines) {
      await startEngine(engine)
      results.push(await forwardLogits(sourceOf(tensors), config, tokens, 2))
    }
    for (const result of results)
      expect(largestGap(result, results[0])).toBeLessThan(1e-5 * largestOf(result))
    expect(results.length).toBeGreaterThan(1)
  })
})

interface Recorded {
  ids: number[]
  positions: { position: number; sum: number; sumsq: number; top: [number, number][] }[]
}

function largestGap(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length)
  let gap = 0
  for (let i = 0; i < a.length; i++) gap = Math.max(gap, Math.abs(a[i] - b[i]))
  return gap
}

const largestOf = (values: ArrayLike<number>) => {
  let largest = 0
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]))
  return largest
}
