import { createServer, type IncomingMessage, type Server, request as sendRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { AbortedError, NumericError } from '../../../src/common/errors.js'
import type { AnsweredRequest } from '../../../src/generate/server/answered-request.js'
import { createHandler, type HandlerOptions } from '../../../src/generate/server/handler.js'
import type { GeneratedToken, GenerateOptions, Generator } from '../../../src/generate.js'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.closeAllConnections()
})

type Write = (options: GenerateOptions) => AsyncGenerator<GeneratedToken>

/** A handler over answers that are written by `write`, and what it tells of requests. */
async function serve(write: Write, own: Partial<HandlerOptions> = {}) {
  const log: AnsweredRequest[] = []
  const generator = {
    sequences: 1,
    context: 100,
    encodeToFit: async () => [1, 2, 3],
    generate: write,
    load: () => ({ active: 0, waiting: 0, cacheBytes: 0 }),
  } as unknown as Generator
  const handler = createHandler({
    ...{
      generator,
      model: 'm',
      host: '127.0.0.1',
      apiKey: undefined,
      queue: 1,
      bodyBytes: 1000,
      seconds: 60,
    },
    onRequest: (request) => log.push(request),
    ...own,
  })
  const server = createServer(handler.handle)
  servers.push(server)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return { handler, log, port: (server.address() as AddressInfo).port }
}

function post(
  port: number,
  body: object,
  onResponse?: (response: IncomingMessage) => void,
  path = '/v1/completions',
) {
  const request = sendRequest({
    ...{ port, path, method: 'POST', headers: { 'content-type': 'application/json' } },
  })
  const response = new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
    request.on('error', reject)
    request.on('response', (message) => {
      onResponse?.(message)
      let text = ''
      message.setEncoding('utf8')
      message.on('data', (part) => {
        text += part
      })
      message.on('close', () => resolve({ status: message.statusCode, text }))
    })
  })
  request.end(JSON.stringify(body))
  return { request, response }
}

/** Answers that {@link endless} has begun. */
let begun = 0

/** Waits until so many more answers have begun. */
async function untilBegun(count: number, before: number): Promise<void> {
  while (begun < before + count) await new Promise((soon) => setTimeout(soon, 2))
}

/** Writes for ever, and ends as a generator does when its signal fires. */
async function* endless({ signal }: GenerateOptions): AsyncGenerator<GeneratedToken> {
  begun++
  for (let token = 0; ; token++) {
    if (signal?.aborted) throw new AbortedError()
    yield { text: `${token} `, token, logprob: -1 }
    await new Promise((soon) => setImmediate(soon))
  }
}

it('a client that goes away stops its answer', async () => {
  for (const stream of [false, true]) {
    const { handler, log, port } = await serve(endless)
    const before = begun
    const { request, response } = post(port, { prompt: 'x', stream })
    response.catch(() => {})
    await untilBegun(1, before)
    request.destroy()
    await handler.idle()
    expect(log).toMatchObject([{ path: '/v1/completions', status: 499, promptTokens: 3 }])
  }
})

it('an answer that takes too long ends with an error, as a status or as an event', async () => {
  const { log, port } = await serve(endless, { seconds: 0.05 })
  const whole = await post(port, { prompt: 'x' }).response
  expect(whole.status).toBe(504)
  expect(JSON.parse(whole.text).error).toMatchObject({ type: 'server_error', code: 'timeout' })
  const { status, text } = await post(port, { prompt: 'x', stream: true }).response
  expect(status).toBe(200)
  const events = text.trimEnd().split('\n\n')
  expect(JSON.parse(events[0].slice('data: '.length)).choices[0].text).toBe('0 ')
  expect(JSON.parse(events.at(-1)!.slice('data: '.length)).error.code).toBe('timeout')
  expect(log).toHaveLength(2)
})

it('a client that does not read holds up nothing but its own answer', async () => {
  const { handler, log, port } = await serve(endless, { seconds: 0.5 })
  const before = begun
  const { response } = post(port, { prompt: 'x', stream: true }, (message) => message.pause())
  response.catch(() => {})
  await untilBegun(1, before)
  const other = await post(port, { prompt: 'x' }).response
  expect(other.status).toBe(504)
  for (const server of servers) server.closeAllConnections()
  await handler.idle()
  expect(log).toHaveLength(2)
})

it('refuses requests beyond its queue, and says when to try again', async () => {
  const { handler, port } = await serve(endless)
  const before = begun
  const first = [post(port, { prompt: 'a' }), post(port, { prompt: 'b' })]
  for (const { response } of first) response.catch(() => {})
  await untilBegun(2, before)
  let retryAfter: string | undefined
  const refused = await post(port, { prompt: 'c' }, ({ headers }) => {
    retryAfter = headers['retry-after']
  }).response
  expect(refused.status).toBe(429)
  expect(JSON.parse(refused.text).error).toMatchObject({ type: 'rate_limit_error', code: 'queue_full' })
  expect(retryAfter).toBe('1')
  for (const { request } of first) request.destroy()
  await handler.idle()
  const { request, response } = post(port, { prompt: 'd', stream: true })
  response.catch(() => {})
  await untilBegun(3, before)
  request.destroy()
  await handler.idle()
})

it('does not tell clients what failed within, but tells its log', async () => {
  const failure = new NumericError('block 3: secret details')
  // biome-ignore lint/correctness/useYield: it fails before its first token
  const { log, port } = await serve(async function* () {
    throw failure
  })
  const { status, text } = await post(port, { prompt: 'x' }).response
  expect(status).toBe(500)
  expect(text).not.toContain('secret')
  expect(log[0]).toMatchObject({ status: 500, error: failure })
})

it('of several answers all stop when one fails', async () => {
  let calls = 0
  let stopped = false
  const { handler, log, port } = await serve(async function* (options) {
    if (calls++ === 1) throw new NumericError('one of them')
    try {
      yield* endless(options)
    } finally {
      stopped = true
    }
  })
  expect((await post(port, { prompt: 'x', n: 2 }).response).status).toBe(500)
  await handler.idle()
  while (!stopped) await new Promise((soon) => setTimeout(soon, 2))
  expect({ stopped, requests: log.length }).toEqual({ stopped: true, requests: 1 })
})

it('refuses new answers while it drains, and lets those under way finish', async () => {
  let release: (() => void) | undefined
  const { handler, port } = await serve(async function* () {
    await new Promise<void>((go) => {
      release = go
    })
    yield { text: 'done', token: 1, logprob: 0, finishReason: 'end' }
  })
  const { response } = post(port, { prompt: 'x' })
  while (release === undefined) await new Promise((soon) => setTimeout(soon, 2))
  handler.drain()
  expect((await post(port, { prompt: 'y' }).response).status).toBe(503)
  expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(503)
  release()
  const { status, text } = await response
  expect(status).toBe(200)
  expect(JSON.parse(text).choices[0]).toMatchObject({ text: 'done', finish_reason: 'stop' })
  await handler.idle()
})

it('stops all answers when it is told to', async () => {
  const { handler, port } = await serve(endless)
  const before = begun
  const { response } = post(port, { prompt: 'x' })
  await untilBegun(1, before)
  handler.stopAll()
  expect((await response).status).toBe(503)
  await handler.idle()
})

it('encodes the prompt of several answers once, and a prompt that is too long to its limit only', async () => {
  const encoded: unknown[] = []
  const prompts: unknown[] = []
  const generator = {
    ...{ sequences: 4, context: 100, load: () => ({ active: 0, waiting: 0, cacheBytes: 0 }) },
    async encodeToFit(options: object) {
      encoded.push(options)
      return encoded.length > 1 ? undefined : [7, 8]
    },
    async *generate({ prompt, messages, separate }: GenerateOptions) {
      prompts.push({ prompt, messages, separate })
      yield { text: 'x', token: 1, logprob: 0, finishReason: 'end' }
    },
  } as unknown as Generator
  const { port } = await serve(endless, { generator })
  const messages = [{ role: 'user', content: 'hello' }]
  const path = '/v1/chat/completions'
  expect((await post(port, { messages, n: 3 }, undefined, path).response).status).toBe(200)
  expect(encoded).toEqual([{ messages }])
  expect(prompts).toEqual(Array(3).fill({ prompt: [7, 8], separate: true }))
  const { status, text } = await post(port, { messages, n: 3 }, undefined, path).response
  expect({ status, ...JSON.parse(text).error }).toMatchObject({
    ...{ status: 400, param: 'messages', code: 'context_length_exceeded' },
    message: 'messages: has more than 99 tokens; expected fewer than the 100 of the context. Shorten it',
  })
  expect(prompts).toHaveLength(3)
})

it('counts answers, not requests, against its queue', async () => {
  const { handler, port } = await serve(endless, { queue: 2 })
  const tooMany = await post(port, { prompt: ['a', 'b'], n: 2 }).response
  expect(tooMany.status).toBe(400)
  expect(JSON.parse(tooMany.text).error.message).toBe(
    'n: asks for 4 answers; expected 3 at most: 1 are computed at a time, and 2 may wait',
  )
  const manyPrompts = await post(port, { prompt: ['a', 'b', 'c', 'd'] }).response
  expect(manyPrompts.status).toBe(400)
  expect(JSON.parse(manyPrompts.text).error).toMatchObject({
    param: 'prompt',
    message: 'prompt: asks for 4 answers; expected 3 at most: 1 are computed at a time, and 2 may wait',
  })
  const before = begun
  const { request, response } = post(port, { prompt: 'a', n: 2 })
  response.catch(() => {})
  await untilBegun(2, before)
  const full = await post(port, { prompt: 'b', n: 2 }).response
  expect(full.status).toBe(429)
  expect(JSON.parse(full.text).error.message).toBe(
    '2 answers belong to requests under way, of 3 at most; try again later',
  )
  request.destroy()
  await handler.idle()
  const all = post(port, { prompt: 'c', n: 3 })
  all.response.catch(() => {})
  await untilBegun(5, before)
  all.request.destroy()
  await handler.idle()
})

it('many answers to a client that does not read make no warnings of leaks', async () => {
  const warnings: Error[] = []
  const onWarning = (warning: Error) => {
    if (warning.name === 'MaxListenersExceededWarning') warnings.push(warning)
  }
  process.on('warning', onWarning)
  let inYield = 0
  const { handler, port } = await serve(
    async function* ({ signal }) {
      const onAbort = () => {}
      signal?.addEventListener('abort', onAbort)
      for (let token = 0; ; token++) {
        if (signal?.aborted) throw new AbortedError()
        inYield++
        yield { text: 'x'.repeat(10_000), token, logprob: -1 }
        inYield--
        await new Promise((soon) => setImmediate(soon))
      }
    },
    { queue: 16 },
  )
  const { request, response } = post(port, { prompt: 'a', n: 16, stream: true }, (message) => message.pause())
  response.catch(() => {})
  let turnsWithAllInYield = 0
  // in its yield is who waits for the client, but for moments: until all are there for many turns
  while (turnsWithAllInYield < 10) {
    turnsWithAllInYield = inYield === 16 ? turnsWithAllInYield + 1 : 0
    await new Promise((soon) => setImmediate(soon))
  }
  request.destroy()
  await handler.idle()
  process.off('warning', onWarning)
  expect(warnings).toEqual([])
})

it('finds the model by its name, escaped or not', async () => {
  const model = 'my "name"@main'
  const { port } = await serve(endless, { model })
  const url = `http://127.0.0.1:${port}`
  for (const path of [encodeURIComponent(model), 'my%20%22name%22@main']) {
    const response = await fetch(`${url}/v1/models/${path}`)
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({ id: model })
  }
  expect((await fetch(`${url}/v1/models/%`)).status).toBe(404)
  const metrics = await (await fetch(`${url}/metrics`)).text()
  expect(metrics).toContain('gptvq_responses_total{path="/v1/models/my%20%22name%22@main",status="200"} 2\n')
})
