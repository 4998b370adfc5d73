import { basename } from 'node:path'
import { type Generator, openGenerator, type RunningServer, startServer } from 'gptvq/generate'
import OpenAI, { type APIError, AuthenticationError, BadRequestError, NotFoundError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { folderOfFile } from '../../cli/support.js'
import { writeChatModel } from '../chat-model.js'

let folder: string
let server: RunningServer
let client: OpenAI
let generator: Generator
const messages = [{ role: 'user' as const, content: 'hello there' }]

const clientOf = ({ url }: RunningServer, apiKey = 'none') =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })

beforeAll(async () => {
  folder = await writeChatModel(await folderOfFile())
  server = await startServer({ model: folder, port: 0 })
  client = clientOf(server)
  generator = await openGenerator({ model: folder })
})
afterAll(async () => {
  await server.close()
  await generator.close()
})

/** What the generator writes by itself. */
async function written(options: Parameters<Generator['generate']>[0]) {
  let text = ''
  let tokens = 0
  for await (const item of generator.generate(options)) {
    text += item.text
    tokens++
  }
  return { text, tokens, promptTokens: generator.encode(options).length }
}

describe('the official client', () => {
  it('lists the model by the name of its folder', async () => {
    const { data } = await client.models.list()
    expect(data.map(({ id }) => id)).toEqual([basename(folder)])
    expect(await client.models.retrieve(basename(folder))).toMatchObject({
      id: server.model,
      object: 'model',
    })
  })

  it('gets the answer to a chat with its counts', async () => {
    const own = await written({ messages, temperature: 0, maxTokens: 20 })
    const answer = await client.chat.completions.create({
      model: server.model,
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'hello' },
            { type: 'text', text: ' there' },
          ],
        },
      ],
      temperature: 0,
      max_completion_tokens: 20,
    })
    expect(answer).toMatchObject({ object: 'chat.completion', model: server.model })
    expect(answer.choices).toHaveLength(1)
    expect(answer.choices[0].message).toMatchObject({ role: 'assistant', content: own.text })
    expect(answer.choices[0].finish_reason).toMatch(/^(stop|length)$/)
    expect(answer.usage).toEqual({
      prompt_tokens: own.promptTokens,
      completion_tokens: own.tokens,
      total_tokens: own.promptTokens + own.tokens,
    })
  })

  it('gets the same answer as a stream, with counts at its end where it asks for them', async () => {
    const own = await written({ messages, temperature: 0, maxTokens: 20 })
    const asked = { model: server.model, messages, temperature: 0, max_tokens: 20, stream: true } as const
    let text = ''
    const reasons: (string | null)[] = []
    const usages: unknown[] = []
    const stream = await client.chat.completions.create({ ...asked, stream_options: { include_usage: true } })
    for await (const chunk of stream) {
      expect(chunk.object).toBe('chat.completion.chunk')
      for (const { delta, finish_reason } of chunk.choices) {
        text += delta.content ?? ''
        reasons.push(finish_reason)
      }
      if (chunk.usage) usages.push(chunk.usage.total_tokens)
    }
    expect(text).toBe(own.text)
    expect(reasons.filter((reason) => reason !== null)).toHaveLength(1)
    expect(reasons.at(-1)).not.toBeNull()
    expect(usages).toEqual([own.promptTokens + own.tokens])
  })

  it('gets log-probabilities of a chat', async () => {
    const { choices } = await client.chat.completions.create({
      ...{ model: server.model, messages, temperature: 0, max_tokens: 5, logprobs: true, top_logprobs: 2 },
    })
    const { content } = choices[0].logprobs!
    expect(content).toHaveLength(5)
    const joined = new TextDecoder().decode(Uint8Array.from(content!.flatMap(({ bytes }) => bytes!)))
    expect(joined).toBe(choices[0].message.content)
    for (const { token, logprob, bytes, top_logprobs } of content!) {
      expect(token).toBe(
        bytes![0] < 128 ? String.fromCharCode(bytes![0]) : `bytes:\\x${bytes![0].toString(16)}`,
      )
      expect(top_logprobs).toHaveLength(2)
      expect(top_logprobs[0]).toMatchObject({ token, logprob })
    }
  })

  it('gets the likeliest tokens with top_p 0', async () => {
    const own = await written({ messages, temperature: 0, maxTokens: 8 })
    const asked = { model: server.model, messages, temperature: 1, max_tokens: 8 }
    const { choices } = await client.chat.completions.create({ ...asked, top_p: 0 })
    expect(choices[0].message.content).toBe(own.text)
  })

  it('gets as many of the likeliest tokens of a text as it asks for, bytes of characters too', async () => {
    const asked = { model: server.model, prompt: 'ab', temperature: 0, max_tokens: 8, logprobs: 5 }
    const { choices } = await client.completions.create(asked)
    const tops = choices[0].logprobs!.top_logprobs!
    expect(tops.map((top) => Object.keys(top).length)).toEqual(Array(8).fill(5))
    expect(tops.flatMap((top) => Object.keys(top)).some((name) => /^bytes:\\x[89a-f]/.test(name))).toBe(true)
    choices[0].logprobs!.tokens!.forEach((token, i) => {
      expect(tops[i][token]).toBe(choices[0].logprobs!.token_logprobs![i])
    })
  })

  it('gets several texts to several prompts, in their order', async () => {
    const prompts = ['one', 'two', 'three']
    const { choices, usage } = await client.completions.create({
      ...{ model: server.model, prompt: prompts, n: 2, temperature: 0, max_tokens: 8, logprobs: 1 },
    })
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5])
    let tokens = 0
    for (const [i, prompt] of prompts.entries()) {
      const own = await written({ prompt, temperature: 0, maxTokens: 8 })
      tokens += 2 * own.tokens
      for (const choice of choices.slice(2 * i, 2 * i + 2)) {
        expect(choice.text).toBe(own.text)
        expect(choice.logprobs?.token_logprobs).toHaveLength(own.tokens)
        expect(choice.logprobs?.text_offset?.[0]).toBe(0)
      }
    }
    expect(usage).toMatchObject({ prompt_tokens: 11, completion_tokens: tokens })
  })

  it('gets different answers to one prompt, again the same with the same seed', async () => {
    const ask = async () => {
      const { choices } = await client.completions.create({
        ...{ model: server.model, prompt: [97, 98], n: 3, temperature: 1, max_tokens: 12, seed: 4 },
      })
      return choices.map(({ text }) => text)
    }
    const texts = await ask()
    expect(new Set(texts).size).toBe(3)
    expect(await ask()).toEqual(texts)
  })

  it('streams text too, and stops in front of a stop string', async () => {
    const own = await written({ prompt: 'xyz', temperature: 0, maxTokens: 16 })
    const stop = [...own.text].slice(4, 6).join('')
    const stream = await client.completions.create({
      ...{ model: server.model, prompt: 'xyz', temperature: 0, stop, stream: true },
    })
    let text = ''
    for await (const { choices } of stream) text += choices[0].text
    expect(text).toBe(own.text.slice(0, own.text.indexOf(stop)))
  })
})

describe('errors', () => {
  const chat = (own: object) =>
    client.chat.completions.create({ model: server.model, messages, ...own } as never) as Promise<unknown>

  it.each([
    [{ temperature: -1 }, 'temperature', /expected a number from 0 to 100/],
    [{ temperature: 'hot' }, 'temperature', /expected a number/],
    [{ top_p: 2 }, 'top_p', /expected a number from 0 to 1/],
    [{ n: 17 }, 'n', /expected 1 to 16 answers/],
    [{ messages: [] }, 'messages', /expected a list of messages/],
    [{ messages: [{ role: 'user', content: 3 }] }, 'messages[0].content', /expected a text/],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'messages[0].content[0]',
      /reads nothing else/,
    ],
    [{ tools: [{ type: 'function', function: { name: 'f' } }] }, 'tools', /calling tools is not there/],
    [
      { response_format: { type: 'json_object' } },
      'response_format',
      /another format than text is not there/,
    ],
    [{ presence_penalty: 1 }, 'presence_penalty', /repetition_penalty is/],
    [{ nonsense: 1 }, 'nonsense', /there is no such field/],
    [{ max_tokens: 1000 }, 'max_tokens', /leaves \d+/],
    [
      { messages: [{ role: 'user', content: 'x'.repeat(600) }] },
      'messages',
      /fewer than the 512 of the context/,
    ],
    [{ top_logprobs: 2 }, 'top_logprobs', /expected logprobs to be true/],
  ])('%j is told by its field', async (own, param, message) => {
    const error: APIError = await chat(own).then(
      () => expect.fail('no error'),
      (failure) => failure,
    )
    expect(error).toBeInstanceOf(BadRequestError)
    expect(error.param).toBe(param)
    expect(error.type).toBe('invalid_request_error')
    expect(error.message).toMatch(message)
  })

  it.each(['max_tokens', 'max_completion_tokens'])(
    '%s beyond the context is told by that name, and by its code',
    async (field) => {
      const error: APIError = await chat({ [field]: 9999 }).then(
        () => expect.fail('no error'),
        (failure) => failure,
      )
      expect(error).toMatchObject({ status: 400, param: field, code: 'context_length_exceeded' })
      expect(error.message).toMatch(/found 9999; the prompt has \d+ of the 512 tokens/)
    },
  )

  it('a chat that the template refuses, and a model that is not there', async () => {
    await expect(chat({ messages: [...messages, ...messages] })).rejects.toThrow(/roles must take turns/)
    await expect(chat({ model: 'gpt-5' })).rejects.toThrow(NotFoundError)
    await expect(chat({ model: 'gpt-5' })).rejects.toThrow(new RegExp(`this server has ${server.model}`))
  })

  it.each([
    ['GET', '/v1/chat/completions', 405],
    ['GET', '/v1/nothing', 404],
    ['GET', '/v1/models/other', 404],
    ['POST', '/v1/models', 405],
    ['GET', '/__proto__', 404],
  ])('%s %s gets the status %d', async (method, path, status) => {
    const response = await fetch(`${server.url}${path}`, { method })
    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error', param: null } })
  })

  it.each([
    ['no JSON', '{"model', 'application/json', 400, /the body is not JSON/],
    ['no object', '[1]', 'application/json', 400, /expected a JSON object/],
    ['another type', '{}', 'text/plain', 415, /content type application\/json/],
    ['bytes that are no text', Uint8Array.of(0xff, 0xfe), 'application/json', 400, /not JSON/],
    [
      'a body that is too large',
      `"${'x'.repeat(5e6)}"`,
      'application/json',
      413,
      /larger than 4194304 bytes/,
    ],
  ])('a body with %s', async (_, body, type, status, message) => {
    const response = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': type },
      body,
    })
    expect(response.status).toBe(status)
    expect(((await response.json()) as { error: { message: string } }).error.message).toMatch(message)
  })
})

describe('access', () => {
  it('asks for the key where there is one, but for /health', async () => {
    const own = await startServer({ model: folder, port: 0, apiKey: 'the key' })
    const ask = (key: string) => clientOf(own, key).models.list()
    await expect(ask('the key')).resolves.toMatchObject({ data: [{ id: own.model }] })
    await expect(ask('the kez')).rejects.toThrow(AuthenticationError)
    await expect(ask('the key and more')).rejects.toThrow(/the API key is wrong/)
    expect((await fetch(`${own.url}/metrics`)).status).toBe(401)
    expect(await (await fetch(`${own.url}/health`)).json()).toEqual({ status: 'ok' })
    await own.close()
  })

  it('without a key is not for web pages whose name leads to this machine', async () => {
    const { port } = new URL(server.url)
    const { request } = await import('node:http')
    const status = await new Promise((resolve) =>
      request({ port, path: '/v1/models', headers: { host: 'evil.example' } }, (response) => {
        response.resume()
        resolve(response.statusCode)
      }).end(),
    )
    expect(status).toBe(403)
  })

  it('tells when it cannot listen, and what limits are impossible', async () => {
    const port = Number(new URL(server.url).port)
    await expect(startServer({ model: folder, port })).rejects.toThrow(
      /cannot listen at 127.0.0.1, port \d+: another program listens there. Choose another host or port/,
    )
    await expect(startServer({ model: folder, port: 70000 })).rejects.toThrow(/port: expected a whole number/)
    await expect(startServer({ model: folder, apiKey: '' })).rejects.toThrow(/apiKey: expected a key/)
  })
})

it('counts what it did', async () => {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  expect(text).toMatch(/^gptvq_responses_total\{path="\/v1\/chat\/completions",status="200"\} [1-9]/m)
  expect(text).toMatch(/^gptvq_completion_tokens_total [1-9]/m)
  expect(text).toMatch(/^gptvq_sequences_active 0$/m)
  for (const line of text.trimEnd().split('\n'))
    expect(line).toMatch(/^(# (HELP|TYPE) |\w+(\{.*\})? [\d.e+]+$)/)
})
