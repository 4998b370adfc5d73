import { PassThrough, Readable } from 'node:stream'
import { openGenerator } from 'gptvq/generate'
import { beforeAll, describe, expect, it } from 'vitest'
import { safeText } from '../../src/common/safe-text.js'
import { writeChatModel } from '../generate/chat-model.js'
import { cli, folderOfFile, resultOf, startCli } from './support.js'

let model: string
beforeAll(async () => {
  model = await writeChatModel(await folderOfFile())
})

const plain = ['--max-tokens', '12', '--temperature', '0']

async function written(options: object, cache?: 'int8'): Promise<string> {
  const generator = await openGenerator({ model, cache })
  let text = ''
  for await (const item of generator.generate({ temperature: 0, maxTokens: 12, ...options }))
    text += item.text
  await generator.close()
  return text
}

const user = (content: string) => ({ role: 'user', content })

describe('gptvq run with a prompt', () => {
  it('writes the answer to standard output and its speed to standard error', async () => {
    const { code, stdout, stderr } = await cli(['run', model, '--prompt', 'hello', ...plain])
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${await written({ messages: [user('hello')] })}\n` })
    expect(stderr).toMatch(/\d+ tokens?, the first after [\d.]+ s, then [\d.]+ tokens a second\n$/)
  })

  it('begins the chat as --system says, and goes on with the text itself with --raw', async () => {
    const messages = [{ role: 'system', content: 'be short' }, user('hello')]
    const asked = await cli(['run', model, '--prompt', 'hello', '--system', 'be short', ...plain])
    expect(asked.stdout).toBe(`${await written({ messages })}\n`)
    const raw = await cli(['run', model, '--prompt', 'hello', '--raw', '--quiet', ...plain])
    expect(raw).toEqual({ code: 0, stdout: `${await written({ prompt: 'hello' })}\n`, stderr: '' })
    const both = await cli(['run', model, '--prompt', 'hello', '--raw', '--system', 'x'])
    expect(both).toMatchObject({ code: 2, stderr: expect.stringContaining('--system goes with a chat') })
  })

  it('caches as --cache says, and names that flag where it cannot', async () => {
    const { stdout } = await cli(['run', model, '--prompt', 'hello', '--cache', 'int8', ...plain])
    expect(stdout).toBe(`${await written({ messages: [user('hello')] }, 'int8')}\n`)
    const other = await cli(['run', model, '--prompt', 'hello', '--cache', 'int4'])
    expect(other).toMatchObject({ code: 2, stderr: expect.stringMatching(/--cache.*float32.*int8/) })
    const tensors = await cli(['run', model, '--prompt', 'hello', '--cache', 'int8', '--engine', 'cpu'])
    expect(tensors).toMatchObject({ code: 2, stderr: expect.stringMatching(/--cache: found int8/) })
  })

  it('takes the bytes for its cache as --cache-bytes says, and names that flag where they are too few', async () => {
    const asked = ['run', model, '--prompt', 'hello', ...plain, '--context', '512', '--cache-bytes']
    const few = await cli([...asked, '1KiB'])
    expect(few).toMatchObject({ code: 2, stderr: expect.stringContaining('--cache-bytes: found 1024;') })
    const { stdout } = await cli([...asked, '64MiB'])
    expect(stdout).toBe(`${await written({ messages: [user('hello')] })}\n`)
  })

  it('takes the prompt from a pipe, less its last line end', async () => {
    const stdin = Readable.from([Buffer.from('two li'), Buffer.from('nes\nof text\n')])
    const { code, stdout } = await cli(['run', model, ...plain], { stdin })
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: `${await written({ messages: [user('two lines\nof text')] })}\n`,
    })
  })

  it('says what is missing without a terminal, a prompt and a pipe', async () => {
    const { code, stderr } = await cli(['run', model], { stdin: Readable.from([]) })
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('--prompt TEXT is missing') })
  })

  it('prints one document with --json', async () => {
    const { stdout } = await cli(['run', model, '--prompt', 'hello', '--json', ...plain])
    expect(JSON.parse(stdout)).toMatchObject({
      text: await written({ messages: [user('hello')] }),
      promptTokens: 25,
      tokens: expect.any(Number),
      finishReason: expect.stringMatching(/^(end|length)$/),
    })
  })

  it('names flags, not options, in its errors', async () => {
    const { code, stderr } = await cli(['run', model, '--prompt', 'x', '--top-p', '2'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/--top-p: expected a number from 0 to 1/)
    const long = await cli(['run', model, '--prompt', 'x', '--max-tokens', '1000'])
    expect(long.stderr).toMatch(/--max-tokens: found 1000; the prompt has \d+ of the 512 tokens/)
  })

  it('stops with the signal', async () => {
    const controller = new AbortController()
    const stopped = await cli(['run', model, '--prompt', 'hello', '--temperature', '0'], {
      signal: controller.signal,
      onStdout: () => controller.abort('SIGINT'),
    })
    expect(stopped.code).toBe(130)
    expect(stopped.stderr).toMatch(/gptvq: stopped\n$/)
    expect(stopped.stdout.length).toBeGreaterThan(0)
  })
})

/** A terminal at which `keys` are typed one after the other, each when the text before it has come. */
async function chat(
  steps: readonly (readonly [after: string | RegExp, keys: string])[],
  args: string[] = [],
) {
  const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => stdin })
  let seen = ''
  let next = 0
  const onStdout = (text: string) => {
    seen = plainText(seen + text)
    if (next >= steps.length) return
    const [after, keys] = steps[next]
    if (typeof after === 'string' ? !seen.includes(after) : !after.test(seen)) return
    seen = ''
    next++
    setImmediate(() => stdin.write(keys))
  }
  const result = await cli(['run', model, '--temperature', '0', ...args], { stdin, terminal: true, onStdout })
  return { ...result, stdout: plainText(result.stdout), typed: next }
}

/** A text without what tells a terminal about its cursor. */
function plainText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
  return text.replace(/\x1b\[[\d;]*[A-Z]/g, '')
}

describe('gptvq run in a terminal', () => {
  const short = ['--max-tokens', '12']

  it('chats with the history, until /exit', async () => {
    const first = await written({ messages: [user('hello')] })
    const history = [user('hello'), { role: 'assistant', content: first }]
    const second = await written({ messages: [...history, user('again')] })
    const fresh = await written({ messages: [user('again')] })
    expect(second).not.toBe(fresh)
    const { code, stdout, stderr } = await chat(
      [
        ['> ', 'hello\r'],
        [`${safeText(first.trimStart())}\n> `, 'again\r'],
        [`${safeText(second.trimStart())}\n> `, '/clear\r'],
        ['> ', 'again\r'],
        [`${safeText(fresh.trimStart())}\n> `, '/exit\r'],
      ],
      short,
    )
    expect(code).toBe(0)
    expect(stdout).toContain('Ctrl-C stops its answer')
    for (const line of stdout.slice(0, stdout.indexOf('> ')).split('\n')) {
      expect(line.length).toBeLessThan(80)
    }
    expect(stderr).toMatch(/36 tokens|\d+ tokens, the first after/)
  })

  it('Ctrl-C stops the answer, and then leaves', async () => {
    const { code, stdout, typed } = await chat([
      ['> ', 'hello\r'],
      [/hello[\s\S]{8}/, '\x03'],
      ['\n> ', '\x03'],
    ])
    expect({ code, typed }).toEqual({ code: 0, typed: 3 })
    expect(stdout.length).toBeLessThan(900)
  })

  it('Ctrl-D leaves, and a question that does not fit is told without ending the chat', async () => {
    const { code, stdout } = await chat(
      [
        ['> ', `${'long '.repeat(120)}\r`],
        ['/clear forgets', '\x04'],
      ],
      short,
    )
    expect(code).toBe(0)
    expect(stdout).toMatch(/the prompt has \d+ tokens, and the context 512/)
  })
})

describe('gptvq serve', () => {
  it('serves until it is told to stop, and logs requests', async () => {
    const controller = new AbortController()
    let url = ''
    const serving = cli(['serve', model, '--port', '0'], {
      signal: controller.signal,
      env: { GPTVQ_API_KEY: 'from the environment' },
      onStdout(text) {
        url = /http:\S+(?=\/v1)/.exec(text)?.[0] ?? ''
        void ask()
      },
    })
    const statuses: number[] = []
    async function ask() {
      const key = { authorization: 'Bearer from the environment' }
      for (const headers of [undefined, key]) {
        statuses.push((await fetch(`${url}/v1/models`, { headers })).status)
      }
      controller.abort('SIGTERM')
    }
    const { code, stdout, stderr } = await serving
    expect({ code, statuses }).toEqual({ code: 0, statuses: [401, 200] })
    expect(stdout).toMatch(/ is served at http:\/\/127\.0\.0\.1:\d+\/v1; Ctrl-C ends it\n$/)
    expect(stderr).toMatch(/GET \/v1\/models 401, .*\nGET \/v1\/models 200, /)
  })

  it('as a process ends with 0 on SIGTERM, after the answer under way', async () => {
    const child = startCli(['serve', model, '--port', '0'])
    const ended = resultOf(child)
    const url = await new Promise<string>((resolve) => {
      child.stdout?.on('data', (data) => resolve(/http:\S+(?=\/v1)/.exec(String(data))![0]))
    })
    const body = JSON.stringify({ prompt: 'hello', temperature: 0, max_tokens: 300, stream: true })
    const headers = { 'content-type': 'application/json' }
    const response = await fetch(`${url}/v1/completions`, { method: 'POST', headers, body })
    child.kill('SIGTERM')
    const text = await response.text()
    expect(text).toMatch(/data: \[DONE\]\n\n$/)
    expect(await ended).toMatchObject({ code: 0, killedBy: null })
  })
})
