import { beforeAll, describe, expect, it } from 'vitest'
import { OptionError, TextError } from '../../../src/common/errors.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { compareContinuations, cutPrompts } from '../../../src/pipeline/evaluate/continuations.js'
import { evaluateModel } from '../../../src/pipeline/evaluate/evaluate-model.js'
import { openModel } from '../../../src/pipeline/folders/open-model.js'
import { folderOfFile } from '../../cli/support.js'
import { likeliestAfter } from '../../generate/write-tokens.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

let reference: string
let other: string
beforeAll(async () => {
  await startEngine('wasm')
  reference = (await writeTinyModel(await folderOfFile())).folder
  // the same weights with some noise on one layer
  const tensors = (all: Map<string, { values: Float32Array }>) => {
    const { values } = all.get('model.layers.1.mlp.down_proj.weight')!
    for (let i = 0; i < values.length; i++) values[i] *= 1 + 0.2 * Math.sin(i)
  }
  other = (await writeTinyModel(await folderOfFile(), { tensors })).folder
})

const text = { text: tinyText(600) }

describe('continuations', () => {
  it('part where the two models, each writing by itself, part', async () => {
    const { continuations } = await evaluateModel({
      model: other,
      reference,
      text,
      context: 48,
      continuations: 6,
    })
    const tokens = new TextEncoder().encode(text.text)
    const lengths: number[] = []
    const [first, second] = [await openModel(reference), await openModel(other)]
    for (let i = 0; i < 6; i++) {
      const prompt = [...tokens.subarray(100 * i, 100 * i + 16)]
      const a = await likeliestAfter(first.source, first.config, prompt, 32)
      const b = await likeliestAfter(second.source, second.config, prompt, 32)
      const parted = a.findIndex((token, at) => token !== b[at])
      lengths.push(parted < 0 ? 32 : parted)
    }
    await first.close()
    await second.close()
    const sorted = [...lengths].sort((a, b) => a - b)
    expect(continuations).toEqual({
      count: 6,
      promptTokens: 16,
      mostTokens: 32,
      mean: lengths.reduce((a, b) => a + b) / 6,
      median: (sorted[2] + sorted[3]) / 2,
      same: lengths.filter((length) => length === 32).length / 6,
    })
    expect(new Set(lengths).size).toBeGreaterThan(1)
  })

  it('of a model and itself never part', async () => {
    const { continuations } = await evaluateModel({
      model: reference,
      reference,
      text,
      context: 32,
      continuations: 3,
    })
    expect(continuations).toMatchObject({ count: 3, mean: 22, median: 22, same: 1 })
  })

  it('need a reference, a text that is long enough, and some context', async () => {
    await expect(evaluateModel({ model: other, text, continuations: 3 })).rejects.toThrow(
      /continuations: needs a reference/,
    )
    const { prompts } = cutPrompts(new Int32Array(400), 20, 64, 5)
    expect(prompts.map((prompt) => [prompt.length, prompt[0], prompt[1]])).toEqual(Array(20).fill([21, 5, 0]))
    expect(cutPrompts(Int32Array.of(5, ...new Int32Array(400)), 20, 64, 5).prompts).toEqual(prompts)
    expect(() => cutPrompts(new Int32Array(100), 20, 64)).toThrow(TextError)
    expect(() => cutPrompts(new Int32Array(100), 20, 64)).toThrow(/20 prompts of 21 need 420/)
    expect(() => cutPrompts(new Int32Array(100), -1, 64)).toThrow(OptionError)
    expect(() => cutPrompts(new Int32Array(100), 1, 2)).toThrow(OptionError)
  })

  it('stop with the signal', async () => {
    const controller = new AbortController()
    const [first, second] = [await openModel(reference), await openModel(other)]
    const comparing = compareContinuations({
      ...{ reference: first, model: second, ...cutPrompts(new Int32Array(100), 2, 60) },
      onProgress: () => controller.abort(),
      signal: controller.signal,
    })
    await expect(comparing).rejects.toThrow(/stopped by the caller/)
    await first.close()
    await second.close()
  })
})
