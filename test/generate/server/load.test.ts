import { connect } from 'node:net'
import { openGenerator, startServer } from 'gptvq/generate'
import OpenAI from 'openai'
import { expect, it } from 'vitest'
import { randomGenerator } from '../../../src/common/random.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { folderOfFile } from '../../cli/support.js'
import { watchKernelArrays } from '../../support/kernel-arrays.js'
import { writeChatModel } from '../chat-model.js'

const REQUESTS = 240

it('hundreds of requests, among them broken and slow ones: each gets its own answer, and nothing is left', async () => {
  const model = await writeChatModel(await folderOfFile())
  await startEngine('wasm')
  const arrays = watchKernelArrays()
  const asked = Array.from({ length: REQUESTS }, (_, i) => ({
    prompt: `${['', 'the same beginning ', 'another beginning, also often '][i % 3]}${i}`,
    temperature: i % 2,
    seed: i,
    max_tokens: 3 + (i % 9),
  }))
  const generator = await openGenerator({ model })
  const expected: string[] = []
  for (const { max_tokens, ...options } of asked) {
    let text = ''
    for await (const item of generator.generate({ ...options, maxTokens: max_tokens })) text += item.text
    expected.push(text)
  }
  await generator.close()

  const seen: number[] = []
  const onRequest = ({ status }: { status: number }) => seen.push(status)
  const server = await startServer({
    model,
    port: 0,
    queue: 1000,
    sequences: 6,
    cacheBytes: 2 ** 19,
    onRequest,
  })
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
  const random = randomGenerator(1)
  const broken = breakConnections(server.url)
  const answers = await Promise.all(
    asked.map(async (options, i) => {
      await new Promise((later) => setTimeout(later, 400 * random()))
      if (i % 5 === 4) return leave(client, options)
      if (i % 3 === 0)
        return (await client.completions.create({ model: server.model, ...options })).choices[0].text
      return readSlowly(client, options, i % 7 === 0 ? 5 : 0)
    }),
  )
  for (const [i, answer] of answers.entries()) if (answer !== undefined) expect(answer).toBe(expected[i])
  expect(answers.filter((answer) => answer !== undefined)).toHaveLength(REQUESTS * 0.8)
  await broken
  const { metrics } = await settled(server.url)
  expect(metrics).toMatch(/^gptvq_sequences_waiting 0$/m)
  expect(seen.filter((status) => status >= 500)).toEqual([])
  await server.close()
  expect(arrays.inUse()).toBe(0)
})

interface Asked {
  readonly prompt: string
  readonly temperature: number
  readonly seed: number
  readonly max_tokens: number
}

/** Goes away with the first piece of a long answer, or before it. */
async function leave(client: OpenAI, options: Asked): Promise<undefined> {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(), 100)
  try {
    const body = { model: '', ...options, max_tokens: 300, stream: true } as const
    const { model: _, ...own } = body
    const stream = await client.completions.create(own as typeof body, { signal: controller.signal })
    for await (const _ of stream) break
  } catch {
    // left before the first piece
  } finally {
    clearTimeout(timer)
  }
}

async function readSlowly(client: OpenAI, options: Asked, milliseconds: number): Promise<string> {
  const body = { ...options, stream: true } as const
  const stream = await client.completions.create(body as typeof body & { model: string })
  let text = ''
  for await (const { choices } of stream) {
    text += choices[0].text
    if (milliseconds > 0) await new Promise((later) => setTimeout(later, milliseconds))
  }
  return text
}

/** Connections that send nonsense, half a request, or end within a body. */
async function breakConnections(url: string): Promise<void> {
  const { hostname, port } = new URL(url)
  const head = `POST /v1/completions HTTP/1.1\r\nHost: ${hostname}\r\nContent-Type: application/json\r\n`
  const sent = [
    '\r\n\r\nnonsense\r\n\r\n',
    'GET /v1/models HT',
    `${head}Content-Length: 100\r\n\r\n{"prompt"`,
    head,
  ]
  await Promise.all(
    Array.from({ length: 40 }, (_, i) => {
      const socket = connect({ host: hostname, port: Number(port) })
      socket.on('error', () => {})
      socket.write(sent[i % sent.length])
      return new Promise<void>((done) => {
        socket.on('close', () => done())
        setTimeout(() => socket.destroy(), 20 + 5 * i)
      })
    }),
  )
}

/** Waits until nothing is computed any more. */
async function settled(url: string): Promise<{ metrics: string }> {
  for (;;) {
    const metrics = await (await fetch(`${url}/metrics`)).text()
    if (/^gptvq_sequences_active 0$/m.test(metrics)) return { metrics }
    await new Promise((later) => setTimeout(later, 20))
  }
}
