import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type GeneratedToken, type GenerateOptions, type Generator, openGenerator } from 'gptvq/generate'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  AbortedError,
  CheckpointError,
  OptionError,
  TextError,
  UnsupportedError,
} from '../../src/common/errors.js'
import { startEngine } from '../../src/model/ops/engine.js'
import type { QuantizedLayer } from '../../src/packing/quantized-layer.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import { quantizeModel } from '../../src/pipeline/quantize/quantize-model.js'
import { folderOfFile } from '../cli/support.js'
import { type KernelArrays, watchKernelArrays } from '../support/kernel-arrays.js'
import { writeChatModel } from './chat-model.js'
import { likeliestAfter } from './write-tokens.js'

let model: string
let arrays: KernelArrays
const opened: Generator[] = []

beforeAll(async () => {
  model = await writeChatModel(await folderOfFile())
  await startEngine('wasm')
  arrays = watchKernelArrays()
})
afterEach(async () => {
  for (const generator of opened.splice(0)) await generator.close()
  expect(arrays.inUse()).toBe(0)
})

async function open(options: Partial<Parameters<typeof openGenerator>[0]> = {}): Promise<Generator> {
  const generator = await openGenerator({ model, ...options })
  opened.push(generator)
  return generator
}

async function itemsOf(generator: Generator, options: GenerateOptions): Promise<GeneratedToken[]> {
  const items: GeneratedToken[] = []
  for await (const item of generator.generate(options)) items.push(item)
  return items
}

const tokensOf = (items: readonly GeneratedToken[]) => items.map(({ token }) => token)
const textOf = (items: readonly GeneratedToken[]) => items.map(({ text }) => text).join('')
const plain = { temperature: 0, maxTokens: 24 }

describe('a generator', () => {
  it('writes with a quantized folder what whole passes over its dequantized weights find likeliest', async () => {
    const output = await folderOfFile()
    const cheap = { sequences: 2, restarts: 1, refinementRounds: 0 }
    await quantizeModel({ model, output, force: true, bits: 2, groupSize: 512, ...cheap })
    const generator = await open({ model: output })
    const prompts = ['the rain in', 'a', 'the rain on the other side of the hill, and then some more of it']
    const found = await Promise.all(prompts.map((prompt) => itemsOf(generator, { prompt, ...plain })))
    const { source, config, close } = await openModel(output)
    for (const [i, prompt] of prompts.entries()) {
      const expected = await likeliestAfter(source, config, generator.encode({ prompt }), 24)
      const end = expected.indexOf(257)
      expect(tokensOf(found[i])).toEqual(end < 0 ? expected : expected.slice(0, end + 1))
    }
    await close()
  })

  it('rounds what stored layers see to 15 bits unless told otherwise, and writes the same as without', async () => {
    const output = await folderOfFile()
    const cheap = { sequences: 2, restarts: 1, refinementRounds: 0 }
    await quantizeModel({ model, output, force: true, bits: 2, ...cheap })
    const written: GeneratedToken[][] = []
    for (const activations of [undefined, 'int16', 'float32'] as const) {
      const generator = await open({ model: output, ...(activations && { activations }) })
      written.push(await itemsOf(generator, { prompt: 'the rain in', ...plain }))
    }
    const [byDefault, rounded, fine] = written
    expect(byDefault).toEqual(rounded)
    expect(tokensOf(byDefault)).toEqual(tokensOf(fine))
    expect(byDefault.map(({ logprob }) => logprob)).not.toEqual(fine.map(({ logprob }) => logprob))
  })

  it('writes with layers that are quantized in memory what the folder of the same layers writes', async () => {
    const output = await folderOfFile()
    const layers = new Map<string, QuantizedLayer>()
    const cheap = { bits: 3, groupSize: 512, sequences: 2, restarts: 1, refinementRounds: 0 }
    await quantizeModel({
      model,
      output,
      force: true,
      ...cheap,
      onLayer: (name, layer) => layers.set(name, layer),
    })
    const [stored, inMemory] = [await open({ model: output }), await open({ layers })]
    const options = { prompt: 'the rain in', ...plain }
    expect(tokensOf(await itemsOf(inMemory, options))).toEqual(tokensOf(await itemsOf(stored, options)))
    const wrong = new Map([['model.layers.9.mlp.up_proj.weight', [...layers.values()][0]]])
    await expect(openGenerator({ model, layers: wrong })).rejects.toThrow(/layers.*layers\.9.*does not have/)
  })

  it('writes answers that are asked for together as it writes each by itself, also when some are left', async () => {
    const generator = await open({ sequences: 3 })
    const asked = Array.from({ length: 9 }, (_, i) => ({
      ...plain,
      prompt: `${'the same beginning of all '.repeat(i % 3)}${i}`,
      temperature: i % 2,
      seed: i,
    }))
    const alone: string[] = []
    for (const options of asked) alone.push(textOf(await itemsOf(generator, options)))
    const fresh = await open({ sequences: 3 })
    const together = await Promise.all(
      asked.map(async (options, i) => {
        if (i % 4 !== 3) return textOf(await itemsOf(fresh, options))
        for await (const _ of fresh.generate(options)) break
        return alone[i]
      }),
    )
    expect(together).toEqual(alone)
    expect(fresh.load()).toMatchObject({ active: 0, waiting: 0 })
  })

  it('computes what prompts begin with alike only once', async () => {
    const generator = await open()
    const chat = [{ role: 'user', content: 'a rather long beginning of a chat, to be kept' }]
    const said = textOf(await itemsOf(generator, { messages: chat, ...plain }))
    const before = arrays.allocated()
    await itemsOf(generator, { messages: chat, ...plain, maxTokens: 1 })
    const again = arrays.allocated() - before
    const other = await open()
    const begun = arrays.allocated()
    await itemsOf(other, { messages: chat, ...plain, maxTokens: 1 })
    expect(said.length).toBeGreaterThan(0)
    expect(again).toBeLessThanOrEqual(arrays.allocated() - begun)
  })

  it('keeps to its budget of caches: answers wait for each other, and are the same', async () => {
    const tight = await open({ context: 96, cacheBytes: 96 * 2 * 8 * 2 * 8, sequences: 4 })
    const roomy = await open({ sequences: 4 })
    const asked = Array.from({ length: 6 }, (_, i) => ({
      ...plain,
      prompt: `prompt ${i} `.repeat(4),
      maxTokens: 40,
    }))
    const texts = (generator: Generator) =>
      Promise.all(asked.map(async (options) => textOf(await itemsOf(generator, options))))
    expect(await texts(tight)).toEqual(await texts(roomy))
    expect(tight.load().cacheBytes).toBeLessThanOrEqual(96 * 2 * 8 * 2 * 8)
  })

  it('writes the same from a cache in int8 whether answers share it, wait for it, or are alone', async () => {
    const bytesOfToken = 2 * 2 * 2 * (8 + 4)
    const tight = await open({ cache: 'int8', context: 96, cacheBytes: 96 * 2 * bytesOfToken, sequences: 4 })
    const roomy = await open({ cache: 'int8', sequences: 1 })
    const asked = Array.from({ length: 6 }, (_, i) => ({
      ...plain,
      prompt: `${'the same beginning '.repeat(2)}${i}`,
      maxTokens: 40,
    }))
    const together = await Promise.all(asked.map((options) => itemsOf(tight, options)))
    expect(tight.load().cacheBytes).toBeGreaterThan(0)
    expect(tight.load().cacheBytes).toBeLessThanOrEqual(96 * 2 * bytesOfToken)
    const fine = await open()
    for (const [i, options] of asked.entries()) {
      const alone = await itemsOf(roomy, options)
      expect(tokensOf(together[i])).toEqual(tokensOf(alone))
      const [first] = await itemsOf(fine, { ...options, maxTokens: 1 })
      expect(Math.abs(alone[0].logprob - first.logprob)).toBeLessThan(0.05)
      expect(alone[0].logprob).not.toBe(first.logprob)
    }
  })

  it('gives with each token its log-probability, and at the end the reason', async () => {
    const generator = await open()
    const items = await itemsOf(generator, { prompt: 'abc', ...plain, topLogprobs: 3 })
    for (const { token, logprob, topLogprobs } of items) {
      expect(topLogprobs).toHaveLength(3)
      expect(topLogprobs![0]).toMatchObject({ token, logprob })
      expect(logprob).toBeLessThan(0)
    }
    expect(items.map(({ finishReason }) => finishReason).filter((reason) => reason)).toHaveLength(1)
    expect(items.at(-1)!.finishReason).toBe(items.at(-1)!.token === 257 ? 'end' : 'length')
  })

  it('ends in front of a stop string, and when the model ends its answer', async () => {
    const generator = await open()
    const whole = await itemsOf(generator, { prompt: 'xyz', ...plain })
    const text = textOf(whole)
    const stop = [...text].slice(3, 5).join('')
    const cut = await itemsOf(generator, { prompt: 'xyz', ...plain, stop: ['not there', stop] })
    expect(textOf(cut)).toBe(text.slice(0, text.indexOf(stop)))
    expect(cut.at(-1)!.finishReason).toBe('stop')
    const third = whole[2].token
    const ending = await writeChatModel(await folderOfFile(), {
      generationConfig: { eos_token_id: [257, third] },
    })
    const ended = await itemsOf(await open({ model: ending }), { prompt: 'xyz', ...plain })
    expect(ended.at(-1)).toMatchObject({ token: third, finishReason: 'end' })
    expect(tokensOf(ended)).toEqual(tokensOf(whole).slice(0, tokensOf(whole).indexOf(third) + 1))
  })

  it('answers the same with the same seed, and otherwise with another', async () => {
    const generator = await open()
    const write = async (seed: number) =>
      textOf(await itemsOf(generator, { prompt: 'seed', temperature: 1, topP: 0.9, maxTokens: 20, seed }))
    expect(await write(5)).toBe(await write(5))
    expect(await write(5)).not.toBe(await write(6))
  })

  it('takes its defaults from generation_config.json', async () => {
    const cold = await writeChatModel(await folderOfFile(), {
      generationConfig: { temperature: 0, top_k: 5 },
    })
    const generator = await open({ model: cold })
    const own = await itemsOf(generator, { prompt: 'abc', maxTokens: 12 })
    expect(tokensOf(own)).toEqual(
      tokensOf(await itemsOf(generator, { prompt: 'abc', ...plain, maxTokens: 12 })),
    )
    const odd = await writeChatModel(await folderOfFile(), { generationConfig: { temperature: 'warm' } })
    await expect(openGenerator({ model: odd })).rejects.toThrow(
      /generation_config.json: temperature is "warm"; expected a number/,
    )
  })
})

describe('a chat', () => {
  const messages = [
    { role: 'user', content: 'hello' },
    { role: 'assistant', content: 'hi' },
    { role: 'user', content: 'again' },
  ]
  const written = '<s>user: hello\n<s>assistant: hi\n<s>user: again\n<s>assistant: '

  it('is written out by the template, whose tokens stand by themselves', async () => {
    const generator = await open()
    expect(generator.hasChatTemplate).toBe(true)
    expect(generator.encode({ messages })).toEqual([...generator.tokenizer.encode(written)])
    expect(generator.encode({ messages }).filter((id) => id === 256)).toHaveLength(4)
  })

  it('prefers chat_template.jinja, and the default of several templates', async () => {
    const listed = await writeChatModel(await folderOfFile(), {
      tokenizerConfig: {
        chat_template: [
          { name: 'tool', template: 'x' },
          { name: 'default', template: 'd' },
        ],
      },
    })
    expect((await open({ model: listed })).encode({ messages })).toEqual([100])
    await writeFile(join(listed, 'chat_template.jinja'), 'j{{ eos_token }}')
    expect((await open({ model: listed })).encode({ messages })).toEqual([106, 257])
  })

  it('tells what a template refuses, what is no template, and what to do without one', async () => {
    const generator = await open()
    const twice = [messages[0], messages[0]]
    expect(() => generator.generate({ messages: twice })).toThrow(TextError)
    expect(() => generator.generate({ messages: twice })).toThrow(
      /chat_template: refuses the messages with the roles user, user: .*roles must take turns/,
    )
    const broken = await writeChatModel(await folderOfFile(), { tokenizerConfig: { chat_template: '{% if' } })
    await expect(openGenerator({ model: broken })).rejects.toThrow(CheckpointError)
    const without = await writeChatModel(await folderOfFile(), { tokenizerConfig: { chat_template: null } })
    const base = await open({ model: without })
    expect(base.hasChatTemplate).toBe(false)
    expect(() => base.generate({ messages })).toThrow(UnsupportedError)
    expect(() => base.generate({ messages })).toThrow(/has no chat template .* Give a prompt/)
  })
})

describe('a prompt', () => {
  it('begins with the token that the tokenizer begins texts with, once', async () => {
    const generator = await open({
      model: await writeChatModel(await folderOfFile(), { tokenizerConfig: { add_bos_token: true } }),
    })
    expect(generator.encode({ prompt: 'ab' })).toEqual([256, 97, 98])
    expect(generator.encode({ prompt: '<s>ab' })).toEqual([256, 97, 98])
    expect(generator.encode({ prompt: [97, 98] })).toEqual([97, 98])
    expect((await open()).encode({ prompt: 'ab' })).toEqual([97, 98])
  })

  it('must fit the context together with the answer', async () => {
    const generator = await open({ context: 16 })
    expect(() => generator.generate({ prompt: 'x'.repeat(16) })).toThrow(TextError)
    expect(() => generator.generate({ prompt: 'x'.repeat(16) })).toThrow(
      /the prompt has 16 tokens, and the context 16; .* Shorten the prompt/,
    )
    expect(() => generator.generate({ prompt: 'x'.repeat(10), maxTokens: 7 })).toThrow(
      /maxTokens: found 7; the prompt has 10 of the 16 tokens of the context, which leaves 6/,
    )
    const items = await itemsOf(generator, { prompt: 'x'.repeat(10), temperature: 0 })
    expect(items.length).toBeLessThanOrEqual(6)
    expect(() => generator.generate({ prompt: '' })).toThrow(/the prompt has no tokens/)
  })

  it('of ids outside the vocabulary is refused', async () => {
    const generator = await open()
    expect(() => generator.generate({ prompt: [1, 258] })).toThrow(/token 1 of the text has the id 258/)
  })
})

describe('options', () => {
  it.each([
    [{ prompt: 'a', messages: [] }, /prompt: expected either a prompt or messages/],
    [{}, /prompt: expected either/],
    [{ prompt: 'a', temperature: -1 }, /temperature: expected a number from 0 to 100, got -1/],
    [{ prompt: 'a', temperature: Number.NaN }, /temperature/],
    [{ prompt: 'a', topP: -0.1 }, /topP: expected a number from 0 to 1/],
    [{ prompt: 'a', separate: 1 }, /separate: expected true or false, got 1/],
    [{ prompt: 'a', topP: 1.5 }, /topP/],
    [{ prompt: 'a', topK: -1 }, /topK/],
    [{ prompt: 'a', minP: 2 }, /minP/],
    [{ prompt: 'a', repetitionPenalty: 0 }, /repetitionPenalty/],
    [{ prompt: 'a', stop: [''] }, /stop: expected at most 64 strings, none of them empty/],
    [{ prompt: 'a', seed: -1 }, /seed/],
    [{ prompt: 'a', maxTokens: 0 }, /maxTokens/],
    [{ prompt: 'a', topLogprobs: 21 }, /topLogprobs/],
    [{ prompt: 'a', top_p: 1 }, /top_p: there is no such option.*topP/],
  ])('%j are refused before anything is computed', async (options, message) => {
    const generator = await open()
    expect(() => generator.generate(options as GenerateOptions)).toThrow(OptionError)
    expect(() => generator.generate(options as GenerateOptions)).toThrow(message)
  })

  it('of opening are checked too', async () => {
    await expect(openGenerator({ model, context: 513 })).rejects.toThrow(
      /context: expected a whole number from 2 to 512/,
    )
    await expect(openGenerator({ model, context: 512, cacheBytes: 1000 })).rejects.toThrow(
      /cacheBytes: found 1000; a context of 512 tokens takes 131072 bytes/,
    )
    const coarse = openGenerator({ model, activations: 'int4' as 'int8' })
    await expect(coarse).rejects.toThrow(/activations: expected one of float32, int16, int8, got int4/)
    expect((await open({ cacheBytes: 256 * 100 })).context).toBe(100)
    const cache = openGenerator({ model, cache: 'int4' as 'int8' })
    await expect(cache).rejects.toThrow(/cache: expected one of float32, int8, got int4/)
    await expect(openGenerator({ model, cache: 'int8', engine: 'cpu' })).rejects.toThrow(
      /cache: found int8 with the engine cpu.*wasm/,
    )
    await startEngine('wasm')
    // 8 values and a scale, for keys and values of 2 heads in 2 blocks
    expect((await open({ cache: 'int8', cacheBytes: 96 * 100 })).context).toBe(100)
  })
})

describe('stopping', () => {
  it('a signal ends an answer with an AbortedError, before or while it is written', async () => {
    const generator = await open()
    const controller = new AbortController()
    const written: string[] = []
    const writing = async () => {
      for await (const { text } of generator.generate({
        prompt: 'abc',
        temperature: 0,
        signal: controller.signal,
      })) {
        written.push(text)
        if (written.length === 3) controller.abort()
      }
    }
    await expect(writing()).rejects.toThrow(AbortedError)
    await expect(writing()).rejects.toThrow(AbortedError)
    expect(written.length).toBeLessThan(100)
  })

  it('closing ends answers with an AbortedError, and later ones too', async () => {
    const generator = await openGenerator({ model })
    const writing = itemsOf(generator, { prompt: 'abc', temperature: 0, maxTokens: 400 })
    const failed = expect(writing).rejects.toThrow(/closed before the text was complete/)
    await new Promise((resolve) => setTimeout(resolve, 20))
    await Promise.all([generator.close(), generator.close()])
    await failed
    await expect(itemsOf(generator, { prompt: 'a', maxTokens: 1 })).rejects.toThrow(AbortedError)
  })

  it('a signal stops the loading, and nothing stays in memory', async () => {
    const controller = new AbortController()
    const loading = openGenerator({ model, signal: controller.signal, onProgress: () => controller.abort() })
    await expect(loading).rejects.toThrow(AbortedError)
  })
})
