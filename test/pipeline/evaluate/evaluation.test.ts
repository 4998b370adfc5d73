import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  AbortedError,
  NumericError,
  OptionError,
  ShapeError,
  TextError,
  UnsupportedError,
} from '../../../src/common/errors.js'
import { randomGenerator } from '../../../src/common/random.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { loadTokenizer } from '../../../src/model/tokenizer.js'
import { type ScoredModel, scoreModels } from '../../../src/pipeline/evaluate/evaluation.js'
import { cutWindows } from '../../../src/pipeline/evaluate/windows.js'
import {
  type ReferenceConfig,
  randomTensors,
  referenceForward,
  smallConfig,
} from '../../model/reference-forward.js'
import { openTinyLlama, sourceOf, type TestTensor, tinyLlamaFolder } from '../../model/tiny-llama.js'

beforeAll(async () => {
  await startEngine('wasm')
})

function randomTokens(length: number, vocabSize: number, seed: number): Int32Array {
  const random = randomGenerator(seed)
  return Int32Array.from({ length }, () => Math.floor(random() * vocabSize))
}

function modelOf(json: ReferenceConfig, tensors: ReadonlyMap<string, TestTensor>): ScoredModel {
  return { source: sourceOf(tensors), config: describeDecoder({ ...json }, 'config.json') }
}

/** The means that scoreModels promises, from brute-force logits, one window at a time. */
function scoresByHand(
  json: ReferenceConfig,
  reference: ReadonlyMap<string, TestTensor>,
  candidate: ReadonlyMap<string, TestTensor>,
  windows: readonly Int32Array[],
) {
  let [nll, kl, agreed, tokens] = [0, 0, 0, 0]
  const distribution = (row: number[]) => {
    const total = row.reduce((sum, x) => sum + Math.exp(x), 0)
    return row.map((x) => Math.exp(x) / total)
  }
  for (const window of windows) {
    const p = referenceForward(json, reference, Array.from(window)).logits.map(distribution)
    const q = referenceForward(json, candidate, Array.from(window)).logits.map(distribution)
    for (let t = 0; t + 1 < window.length; t++) {
      nll -= Math.log(q[t][window[t + 1]])
      kl += p[t].reduce((sum, x, token) => sum + x * Math.log(x / q[t][token]), 0)
      if (p[t].indexOf(Math.max(...p[t])) === q[t].indexOf(Math.max(...q[t]))) agreed++
      tokens++
    }
  }
  return { nll: nll / tokens, klDivergence: kl / tokens, top1Agreement: agreed / tokens, tokens }
}

/** A model that is a table: after `token` the logits are `table[token]`. Its block adds nothing, its head reads off. */
function bigramModel(table: number[][]): ScoredModel {
  const vocab = table.length
  const json = {
    ...smallConfig,
    vocab_size: vocab,
    hidden_size: vocab,
    num_hidden_layers: 1,
    rms_norm_eps: 1e-12,
  }
  const tensors = randomTensors(json, 1)
  for (const [name, { values }] of tensors) if (/o_proj|down_proj/.test(name)) values.fill(0)
  tensors.get('model.norm.weight')!.values.fill(1)
  const embedding = tensors.get('model.embed_tokens.weight')!.values.fill(0)
  const head = tensors.get('lm_head.weight')!.values
  for (let token = 0; token < vocab; token++) {
    embedding[token * vocab + token] = 1
    // the norm turns the one-hot row into sqrt(vocab) times itself
    for (let next = 0; next < vocab; next++)
      head[next * vocab + token] = table[token][next] / Math.sqrt(vocab)
  }
  return modelOf(json, tensors)
}

describe('scoreModels', () => {
  it('equals scores computed by hand from a two-token table', async () => {
    // after 0: tokens 0 and 1 with 3/4 and 1/4; after 1: with 1/2 and 1/2
    const truth = bigramModel([
      [Math.log(3), 0],
      [5, 5],
    ])
    const other = bigramModel([
      [0, 0],
      [0, Math.log(4)],
    ])
    const windows = [Int32Array.of(0, 0, 1, 0), Int32Array.of(1, 1, 1, 0)]
    const { reference, candidates } = await scoreModels({ reference: truth, candidates: [other], windows })
    const product = (3 / 4) * (1 / 4) * (1 / 2) * (1 / 2) * (1 / 2) * (1 / 2)
    expect(reference!.perplexity).toBeCloseTo(product ** (-1 / 6), 5)
    expect(reference!.nll).toBeCloseTo(-Math.log(product) / 6, 6)
    expect(reference).not.toHaveProperty('klDivergence')
    const klAfter0 = (3 / 4) * Math.log(3 / 2) + (1 / 4) * Math.log(1 / 2)
    const klAfter1 = 0.5 * Math.log(0.5 / 0.2) + 0.5 * Math.log(0.5 / 0.8)
    expect(candidates[0].klDivergence).toBeCloseTo((2 * klAfter0 + 4 * klAfter1) / 6, 6)
    // after 0 both put token 0 first (the first of equals); after 1 the reference does, the other puts 1
    expect(candidates[0].top1Agreement).toBeCloseTo(2 / 6, 12)
    expect(candidates[0].tokens).toBe(6)
  })

  it('gives a model with uniform logits the size of its vocabulary as perplexity', async () => {
    const uniform = bigramModel(Array.from({ length: 6 }, () => [1, 1, 1, 1, 1, 1]))
    const { candidates } = await scoreModels({
      candidates: [uniform],
      windows: [Int32Array.of(0, 5, 3, 2, 2)],
    })
    expect(candidates[0].perplexity).toBeCloseTo(6, 6)
    expect(candidates[0].tokens).toBe(4)
    expect(candidates[0]).not.toHaveProperty('klDivergence')
  })

  it('equals a brute-force evaluation of several candidates over many windows', async () => {
    const json = { ...smallConfig, num_key_value_heads: 1 }
    const tensors = [1, 2, 3].map((seed) => randomTensors(json, seed))
    const windows = cutWindows(randomTokens(61 * 50, json.vocab_size, 4), 50)
    const [reference, ...candidates] = tensors.map((weights) => modelOf(json, weights))
    const scores = await scoreModels({ reference, candidates, windows })
    ;[scores.reference!, ...scores.candidates].forEach((score, i) => {
      const expected = scoresByHand(json, tensors[0], tensors[i], windows)
      expect(score.nll).toBeCloseTo(expected.nll, 5)
      expect(score.perplexity).toBeCloseTo(Math.exp(expected.nll), 3)
      expect(score.tokens).toBe(61 * 49)
      if (i === 0) return
      expect(score.klDivergence).toBeCloseTo(expected.klDivergence, 5)
      expect(score.top1Agreement).toBeCloseTo(expected.top1Agreement, 3)
    })
  })

  it('finds no divergence of the embedded model from itself, and that it predicts its own text', async () => {
    const model = await openTinyLlama()
    const text = await readFile(join(tinyLlamaFolder, 'texts', 'evaluation.txt'), 'utf8')
    const tokens = (await loadTokenizer(tinyLlamaFolder)).encode(text)
    const windows = cutWindows(tokens, 64, 8)
    const { reference, candidates } = await scoreModels({ reference: model, candidates: [model], windows })
    expect(candidates[0]).toEqual({ ...reference, klDivergence: 0, top1Agreement: 1 })
    const shuffled = cutWindows(randomTokens(512, 4096, 1), 64)
    const noise = await scoreModels({ candidates: [model], windows: shuffled })
    expect(candidates[0].perplexity).toBeLessThan(200)
    expect(noise.candidates[0].perplexity).toBeGreaterThan(4096)
  })

  it('reports progress up to the whole, and leaves no tensor behind', async () => {
    const model = modelOf(smallConfig, randomTensors(smallConfig, 1))
    const windows = cutWindows(randomTokens(5000, smallConfig.vocab_size, 1), 50)
    const before = tf.memory().numTensors
    const seen: { done: number; total: number }[] = []
    await scoreModels({ reference: model, candidates: [model], windows, onProgress: (p) => seen.push(p) })
    const dones = seen.map(({ done }) => done)
    expect(dones).toEqual(dones.toSorted((a, b) => a - b))
    expect(seen[seen.length - 1].done).toBe(seen[0].total)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('stops when aborted, from a timer too, and frees its tensors', async () => {
    const model = modelOf(smallConfig, randomTensors(smallConfig, 1))
    const windows = cutWindows(randomTokens(64 * 400, smallConfig.vocab_size, 1), 64)
    const before = tf.memory().numTensors
    await expect(scoreModels({ candidates: [model], windows, signal: AbortSignal.abort() })).rejects.toThrow(
      AbortedError,
    )
    const controller = new AbortController()
    setTimeout(() => controller.abort(), 1)
    await expect(scoreModels({ candidates: [model], windows, signal: controller.signal })).rejects.toThrow(
      AbortedError,
    )
    expect(tf.memory().numTensors).toBe(before)
  })

  it('names the position of a logit that is not finite', async () => {
    const tensors = randomTensors(smallConfig, 1)
    tensors.get('lm_head.weight')!.values.fill(3e38)
    const before = tf.memory().numTensors
    const scored = () =>
      scoreModels({ candidates: [modelOf(smallConfig, tensors)], windows: [Int32Array.of(1, 2, 3)] })
    await expect(scored()).rejects.toThrow(NumericError)
    await expect(scored()).rejects.toThrow(/window 0, position 0: the logit of token 0 is/)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('refuses windows it cannot score and models it cannot compare', async () => {
    const model = modelOf(smallConfig, randomTensors(smallConfig, 1))
    const other = bigramModel([
      [0, 0],
      [0, 0],
    ])
    const windows = [Int32Array.of(0, 1, 1)]
    await expect(scoreModels({ candidates: [model], windows: [] })).rejects.toThrow(ShapeError)
    const ragged = [Int32Array.of(0, 1, 1), Int32Array.of(0, 1)]
    await expect(scoreModels({ candidates: [model], windows: ragged })).rejects.toThrow(ShapeError)
    await expect(scoreModels({ reference: model, candidates: [other], windows })).rejects.toThrow(
      UnsupportedError,
    )
    const long = scoreModels({ candidates: [model], windows: [new Int32Array(65)] })
    await expect(long).rejects.toThrow(OptionError)
    const beyond = scoreModels({ candidates: [model], windows: [Int32Array.of(1, 17)] })
    await expect(beyond).rejects.toThrow(TextError)
  })
})

describe('cutWindows', () => {
  const tokens = Int32Array.from({ length: 23 }, (_, i) => i)

  it('cuts from the start, without overlap, and leaves the rest out', () => {
    const windows = cutWindows(tokens, 5)
    expect(windows.map((window) => Array.from(window))).toEqual([
      [0, 1, 2, 3, 4],
      [5, 6, 7, 8, 9],
      [10, 11, 12, 13, 14],
      [15, 16, 17, 18, 19],
    ])
    expect(cutWindows(tokens, 5, 2)).toEqual(windows.slice(0, 2))
    expect(cutWindows(tokens, 5, 200)).toEqual(windows)
    expect(cutWindows(tokens, 23).length).toBe(1)
  })

  it('begins each window with the first token that is asked for, in the place of one of the text', () => {
    const expected = [
      [99, 0, 1, 2, 3],
      [99, 4, 5, 6, 7],
    ]
    for (const text of [tokens, Int32Array.of(99, ...tokens)]) {
      expect(cutWindows(text, 5, 2, 99).map((window) => Array.from(window))).toEqual(expected)
    }
    expect(cutWindows(tokens, 24, undefined, 99)).toHaveLength(1)
    expect(() => cutWindows(tokens, 25, undefined, 99)).toThrow(/has 23 tokens.*needs 24/)
    expect(() => cutWindows(tokens, 5, 2, -1)).toThrow(OptionError)
  })

  it('says how many tokens a text too short has and needs', () => {
    expect(() => cutWindows(tokens, 24)).toThrow(TextError)
    expect(() => cutWindows(tokens, 24)).toThrow(/has 23 tokens.*needs 24/)
  })

  it.each([
    [1, 5],
    [2.5, 5],
    [4, 0],
    [4, 1.5],
  ])('refuses a context of %d with %d windows', (context, windows) => {
    expect(() => cutWindows(tokens, context, windows)).toThrow(OptionError)
  })
})
