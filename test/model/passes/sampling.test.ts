import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import { AbortedError, NumericError, OptionError, UnsupportedError } from '../../../src/common/errors.js'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import { forwardKernels } from '../../../src/kernels/forward-kernels.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { drawToken, drawTokens } from '../../../src/model/passes/draw-token.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { sampleSequences } from '../../../src/model/passes/sampling.js'
import { type KernelArrays, watchKernelArrays } from '../../support/kernel-arrays.js'
import { randomTensors, smallConfig } from '../reference-forward.js'
import { sourceOf } from '../tiny-llama.js'

const grouped = { ...smallConfig, num_attention_heads: 4, num_key_value_heads: 2, attention_bias: true }
const config = describeDecoder({ ...grouped }, 'config.json')
const source = sourceOf(randomTensors(grouped, 21))

let arrays: KernelArrays
beforeAll(async () => {
  await startEngine('wasm')
  arrays = watchKernelArrays()
})
const inUse = () => [tf.memory().numTensors, arrays.inUse()]

describe('drawToken', () => {
  it('draws each token as often as its probability says', () => {
    const logits = Float32Array.of(0, 2, -1, 1000, 998, Number.NEGATIVE_INFINITY)
    for (const temperature of [1, 3]) {
      const odds = Array.from(logits, (logit) => Math.exp((logit - 1000) / temperature))
      const total = odds.reduce((sum, x) => sum + x, 0)
      const random = randomGenerator(1)
      const draws = 20000
      const counts = new Array(logits.length).fill(0)
      for (let i = 0; i < draws; i++) counts[drawToken(logits, temperature, random)]++
      counts.forEach((count, token) => {
        const share = odds[token] / total
        // five standard deviations, and exactly none where the probability is nothing
        expect(Math.abs(count - draws * share)).toBeLessThanOrEqual(
          5 * Math.sqrt(draws * share * (1 - share)),
        )
      })
    }
  })
})

describe('drawTokens', () => {
  it.each([1, 7, 48, 97, 500])('draws what drawToken draws, from a vocabulary of %s', (vocabSize) => {
    const random = randomGenerator(vocabSize)
    const rows = 40
    const { allocate, release } = forwardKernels()
    for (const temperature of [1, 0.7, 20]) {
      const logits = Float32Array.from({ length: rows * vocabSize }, () => 6 * randomNormal(random))
      const resident = allocate(logits.length)
      resident.set(logits)
      const randoms = (seed: number) => Array.from({ length: rows }, (_, i) => randomGenerator(seed + i))
      const drawn = drawTokens(resident, vocabSize, temperature, randoms(5))
      release(resident)
      const plain = randoms(5).map((own, i) =>
        drawToken(logits.subarray(i * vocabSize, (i + 1) * vocabSize), temperature, own),
      )
      // a number that falls on the border of two tokens may be rounded to either; none of these does
      expect(Array.from(drawn)).toEqual(plain)
    }
  })
})

it('at temperatures next to nothing the likeliest token is drawn', () => {
  const random = randomGenerator(4)
  const { allocate, release } = forwardKernels()
  const vocabSize = 48
  const resident = allocate(3 * vocabSize)
  for (const temperature of [1e-19, 1e-20, 1e-39, Number.MIN_VALUE]) {
    const logits = Float32Array.from({ length: 3 * vocabSize }, () => 6 * randomNormal(random))
    const rows = [0, 1, 2].map((row) => logits.subarray(row * vocabSize, (row + 1) * vocabSize))
    const likeliest = rows.map((row) => row.indexOf(Math.max(...row)))
    resident.set(logits)
    const randoms = rows.map((_, i) => randomGenerator(i))
    expect(Array.from(drawTokens(resident, vocabSize, temperature, randoms))).toEqual(likeliest)
    expect(rows.map((row) => drawToken(row, temperature, randomGenerator(1)))).toEqual(likeliest)
  }
  release(resident)
})

describe('sampleSequences', () => {
  it('starts with BOS, keeps to the vocabulary and leaves nothing in memory behind', async () => {
    const before = inUse()
    const sequences = await sampleSequences(source, config, { count: 4, length: 16, seed: 5 })
    expect(sequences.map((sequence) => sequence.length)).toEqual([16, 16, 16, 16])
    expect(sequences.every((sequence) => sequence[0] === config.bosTokenId)).toBe(true)
    expect(sequences.every((sequence) => sequence.every((id) => id >= 0 && id < config.vocabSize))).toBe(true)
    expect(inUse()).toEqual(before)
  })

  it('gives the same sequences for the same seed, others for another, and does not depend on the count', async () => {
    const options = { length: 16, seed: 5 }
    const sequences = await sampleSequences(source, config, { ...options, count: 5 })
    expect(await sampleSequences(source, config, { ...options, count: 5 })).toEqual(sequences)
    expect(await sampleSequences(source, config, { ...options, count: 2 })).toEqual(sequences.slice(0, 2))
    expect(await sampleSequences(source, config, { ...options, count: 5, seed: 6 })).not.toEqual(sequences)
    expect(sequences[0]).not.toEqual(sequences[1])
  })

  it('samples the second token from the distribution that the full forward pass gives after BOS', async () => {
    const count = 4000
    const sequences = await sampleSequences(source, config, { count, length: 2, seed: 1 })
    const logits = await forwardLogits(source, config, Int32Array.of(0), 1)
    const odds = Array.from(logits, Math.exp)
    const total = odds.reduce((sum, x) => sum + x, 0)
    odds.forEach((odd, token) => {
      const share = odd / total
      const seen = sequences.filter((sequence) => sequence[1] === token).length
      expect(Math.abs(seen - count * share)).toBeLessThan(5 * Math.sqrt(count * share) + 1)
    })
  })

  it('takes the likeliest token nearly always at a low temperature', async () => {
    const [sequence] = await sampleSequences(source, config, {
      count: 1,
      length: 12,
      seed: 2,
      temperature: 1e-4,
    })
    const logits = await forwardLogits(source, config, sequence, 1)
    for (let position = 0; position + 1 < sequence.length; position++) {
      const row = Array.from(logits.subarray(position * config.vocabSize, (position + 1) * config.vocabSize))
      expect(sequence[position + 1]).toBe(row.indexOf(Math.max(...row)))
    }
  })

  it('reports progress up to the whole, and stops when aborted', async () => {
    const done: number[] = []
    const controller = new AbortController()
    await sampleSequences(source, config, {
      count: 2,
      length: 5,
      seed: 1,
      onProgress: (p) => done.push(p.done / p.total),
    })
    expect(done[done.length - 1]).toBe(1)
    expect(done).toEqual(done.toSorted((a, b) => a - b))
    const before = inUse()
    const stopped = sampleSequences(source, config, {
      count: 2,
      length: 50,
      seed: 1,
      signal: controller.signal,
      onProgress: () => controller.abort(),
    })
    await expect(stopped).rejects.toThrow(AbortedError)
    expect(inUse()).toEqual(before)
  })

  it.each([
    [{ count: 0, length: 4 }, 'count'],
    [{ count: 1.5, length: 4 }, 'count'],
    [{ count: 1, length: 65 }, '1 to 64 tokens'],
    [{ count: 1, length: 4, temperature: 0 }, 'temperature'],
    [{ count: 1, length: 4, temperature: Number.NaN }, 'temperature'],
  ])('refuses impossible options: %j', async (options, named) => {
    const sampled = sampleSequences(source, config, { seed: 1, ...options })
    await expect(sampled).rejects.toThrow(OptionError)
    await expect(sampleSequences(source, config, { seed: 1, ...options })).rejects.toThrow(named)
  })

  it('draws nothing from predictions that are not numbers', async () => {
    const tensors = randomTensors(grouped, 21)
    tensors.get('lm_head.weight')!.values.fill(3e38)
    const before = inUse()
    const sampled = sampleSequences(sourceOf(tensors), config, { count: 1, length: 4, seed: 1 })
    await expect(sampled).rejects.toThrow(NumericError)
    const run = forwardLogits(sourceOf(tensors), config, new Int32Array(4), 1)
    await expect(run).rejects.toThrow(/the logit of token 0 behind hidden state 0 is (NaN|-?Infinity)/)
    expect(inUse()).toEqual(before)
  })

  it('says that a model without BOS cannot be sampled', async () => {
    const without = { ...config, bosTokenId: undefined }
    await expect(sampleSequences(source, without, { count: 1, length: 4, seed: 1 })).rejects.toThrow(
      UnsupportedError,
    )
  })
})
