// %% [markdown]
/*
# Writing text

The embedded Llama of 4.2 million parameters writes: as it is, and quantized to fewer and fewer bits. How fast is it then, and how far are its predictions from those of the original? How to run it: [README](README.md). All there is to set is on the page [Run a model](../../docs/run.md).
*/

// %%
import { writeFile } from 'node:fs/promises'
import { type GenerateOptions, openGenerator } from 'gptvq/generate'
import { evaluateModel, quantizeModel } from 'gptvq/model'
import { rateDistortionChart } from 'gptvq/report'
import { display } from 'tslab'

// %% [markdown]
/*
## Load and write

`generate` gives one token after the other; all texts together are the answer. At temperature 0 it always takes the token that the model finds likeliest. This model is small, and knows how to sound rather than what to say.
*/

// %%
const model = '../models/tiny-llama'
const original = { model, force: true }

async function write(folder: string, options: GenerateOptions): Promise<string> {
  const generator = await openGenerator({ model: folder })
  let answer = ''
  for await (const { text } of generator.generate(options)) answer += text
  await generator.close()
  return answer
}

const beginning = { prompt: 'The old man looked at the sea and' }
console.log(beginning.prompt + (await write(model, { ...beginning, maxTokens: 16, temperature: 0 })))

// %% [markdown]
/*
## Quantize

Two methods, at several numbers of bits: RTN rounds, GPTVQ looks its weights up in codebooks. Eight calibration sequences of 128 tokens are few, to be quick.
*/

// %%
const output = '../../out/notebooks/writing'
const calibration = { calibration: `${model}/texts/calibration.txt`, sequences: 8, sequenceLength: 128 }
const folders: { method: string; bits: number; folder: string }[] = []
for (const [method, bits] of [
  ['rtn', 2],
  ['rtn', 3],
  ['rtn', 4],
  ['rtn', 8],
  ['gptvq', 2],
  ['gptvq', 3],
] as const) {
  const folder = `${output}-${method}-${bits}`
  const given = method === 'gptvq' ? calibration : {}
  const { bitsPerValue } = await quantizeModel({ ...original, output: folder, method, bits, ...given })
  folders.push({ method: method === 'rtn' ? 'RTN' : 'GPTVQ', bits: bitsPerValue, folder })
  console.log(`${method} with ${bits} bits: ${bitsPerValue.toFixed(3)} bits per value`)
}

// %% [markdown]
/*
## Chat

A model that is made for chats has a chat template, which writes messages out as its training did: `chat_template.jinja`, or a field of `tokenizer_config.json`. This one has none, so here is a plain one. The whole history is handed over each time; what the prompt has in common with the one before is still in the cache.
*/

// %%
const talking = `${output}-rtn-8`
await writeFile(
  `${talking}/chat_template.jinja`,
  '{% for message in messages %}{{ message.role }} : {{ message.content }}\n{% endfor %}assistant :',
)
const generator = await openGenerator({ model: talking, cache: 'int8' })
const messages: { role: string; content: string }[] = []
for (const content of ['Did you like the film ?', 'And the music ?']) {
  messages.push({ role: 'user', content })
  let answer = ''
  for await (const { text } of generator.generate({ messages, maxTokens: 12, temperature: 0 })) {
    answer += text
  }
  messages.push({ role: 'assistant', content: answer.trim() })
}
await generator.close()
console.log(messages.map(({ role, content }) => `${role}: ${content}`).join('\n'))

// %% [markdown]
/*
## How fast

Tokens per second of one answer of 48 tokens, the best of three. In so small a model the work between the products is the most of it, and half of its weights are the embedding, which stays as it is: the figures that count, of layers as large models have them, are on the page [Benchmarks](../../docs/benchmarks.md#writing-text).
*/

// %%
async function tokensPerSecond(folder: string): Promise<number> {
  const own = await openGenerator({ model: folder })
  let best = 0
  for (let round = 0; round < 3; round++) {
    let [tokens, first] = [0, 0]
    for await (const _ of own.generate({ ...beginning, maxTokens: 48, temperature: 1, seed: 1 })) {
      if (tokens++ === 0) first = performance.now()
    }
    if (tokens > 1) best = Math.max(best, (1e3 * (tokens - 1)) / (performance.now() - first))
  }
  await own.close()
  return best
}

const speeds = [{ method: 'original', bits: 16, value: await tokensPerSecond(model) }]
for (const { method, bits, folder } of folders) {
  speeds.push({ method, bits, value: await tokensPerSecond(folder) })
}
display.svg(
  rateDistortionChart(speeds, {
    title: 'Speed against size',
    measure: 'tokens per second',
    better: 'more',
  }),
)

// %% [markdown]
/*
## How far off

KL divergence between the predictions of the original and of the quantized model, on text that neither has seen: 0 is the same.
*/

// %%
const scoring = { reference: model, text: `${model}/texts/evaluation.txt`, context: 128, windows: 16 }
const divergences: { method: string; bits: number; value: number }[] = []
const lengths: { method: string; bits: number; value: number }[] = []
for (const { method, bits, folder } of folders) {
  const { klDivergence = NaN, continuations } = await evaluateModel({
    ...scoring,
    model: folder,
    continuations: 16,
  })
  divergences.push({ method, bits, value: klDivergence })
  lengths.push({ method, bits, value: continuations?.mean ?? NaN })
  console.log(`${method.padEnd(5)}  ${bits.toFixed(3)} bits per value  KL ${klDivergence.toFixed(3)}`)
}
display.svg(
  rateDistortionChart(divergences, {
    title: 'Divergence against size',
    measure: 'KL divergence, nats per token',
    scale: 'log',
  }),
)

// %% [markdown]
/*
A model that writes reads its own words: one other token, and all that follows is another text. Both models went on from 16 prompts of 42 tokens with their likeliest tokens for 86 more: how many were the same before they parted, on average?
*/

// %%
display.svg(
  rateDistortionChart(lengths, {
    title: 'Tokens until they part, against size',
    measure: 'tokens, 86 at most',
    better: 'more',
  }),
)
