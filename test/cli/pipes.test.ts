import { execFileSync, spawn } from 'node:child_process'
import { open, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { commands } from '../../src/cli/commands.js'
import { flagName } from '../../src/cli/flags/flags.js'
import { TextError } from '../../src/common/errors.js'
import { quantizeModel } from '../../src/model.js'
import { readTextFile, readTextOf } from '../../src/pipeline/calibrate/text-file.js'
import { trainModel } from '../../src/train.js'
import { tinyLlamaFolder } from '../model/tiny-llama.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

const text = fileURLToPath(new URL('../../README.md', import.meta.url))
const evaluation = ['eval', tinyLlamaFolder, '--windows', '1', '--json', '--text']

async function pipe(): Promise<string> {
  const path = join(await folderOfFile(), 'pipe')
  execFileSync('mkfifo', [path])
  return path
}

/** Writes a file into a pipe, from another process: to open a pipe is to wait for the other side. */
function write(file: string, path: string): void {
  spawn('sh', ['-c', 'cat "$0" > "$1"', file, path], { stdio: 'ignore' })
}

/** What a call ends with that is stopped while it waits for a pipe. */
async function stoppedAtPipe(args: readonly string[], path: string) {
  const controller = new AbortController()
  const call = cli([...args, path], { signal: controller.signal })
  // it is open for writing once the other side is open for reading
  const writing = await open(path, 'w')
  controller.abort('SIGINT')
  const result = await call
  await writing.close()
  return result
}

/** What a call ends with that is stopped while it waits for standard input. */
function stoppedAtInput(args: readonly string[]) {
  const controller = new AbortController()
  const stdin = new Readable({ read: () => setImmediate(() => controller.abort('SIGINT')) })
  return cli(args, { signal: controller.signal, stdin: stdin as never })
}

describe.skipIf(process.platform === 'win32')('a pipe in the place of a file', () => {
  test('brings a text as the file does', async () => {
    const path = await pipe()
    write(text, path)
    const piped = await cli([...evaluation, path])
    expect(piped.stderr).not.toMatch(/gptvq:/)
    expect(JSON.parse(piped.stdout)).toEqual(JSON.parse((await cli([...evaluation, text])).stdout))
  })

  test('brings calibration, which is read more than once', async () => {
    const [path, folder] = [await pipe(), await folderOfFile()]
    const [model, file] = [join(folder, 'model'), join(folder, 'calibration.txt')]
    await writeTinyModel(model)
    await writeFile(file, tinyText(2000))
    write(file, path)
    const flags = ['--method', 'gptq', '--bits', '4', '--group-size', '16', '--sequences', '2', '--json']
    const call = (out: string, from: string) =>
      cli(['quantize', model, '--out', join(folder, out), '--calibration', from, ...flags])
    expect(await call('piped', path)).toMatchObject({ code: 0 })
    expect(await call('read', file)).toMatchObject({ code: 0 })
    const weights = (out: string) => readFile(join(folder, out, 'model.safetensors'))
    expect(await weights('piped')).toEqual(await weights('read'))
  })

  test('is refused by the library where a text is read more than once', async () => {
    const [calibration, output] = [await pipe(), join(await folderOfFile(), 'out')]
    const run = quantizeModel({ model: tinyLlamaFolder, output, method: 'gptq', bits: 4, calibration })
    await expect(run).rejects.toThrow(/is a pipe, which can be read only once; .*\{ text \}/)
  })

  test('is refused by training before it is opened', async () => {
    const [path, output] = [await pipe(), join(await folderOfFile(), 'out')]
    // which nobody writes into: to read it would be to wait for ever
    const run = trainModel({ model: tinyLlamaFolder, output, method: 'qat', text: path })
    await expect(run).rejects.toThrow(/is a pipe, which can be read only once; .*\{ text \}/)
  })

  test('brings flags', async () => {
    const [path, flags] = [await pipe(), join(await folderOfFile(), 'flags.json')]
    await writeFile(flags, JSON.stringify({ windows: 1, text, json: true }))
    write(flags, path)
    const { stdout } = await cli(['eval', tinyLlamaFolder, '--config', path])
    expect(JSON.parse(stdout).windows).toBe(1)
  })

  test.each(['--text', '--config'])('of %s that nobody writes into can be stopped', async (flag) => {
    const args = ['eval', tinyLlamaFolder, ...(flag === '--text' ? [] : ['--text', text])]
    expect((await stoppedAtPipe([...args, flag], await pipe())).code).toBe(130)
  })

  test('is refused as a log', async () => {
    const { code, stderr } = await cli([...evaluation, text, '--log-file', await pipe()])
    expect(code).toBe(2)
    expect(stderr).toMatch(/--log-file: .*pipe cannot be written \(it is a pipe/)
  })

  test('that never ends is refused by its length', async () => {
    const endless = Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc(1000)
      })(),
    )
    const reading = readTextOf(endless, 'endless', { most: 5000 })
    await expect(reading).rejects.toThrow(
      new TextError('endless: is longer than 5000 characters; expected less text'),
    )
  })
})

describe.skipIf(process.platform === 'win32')('a device in the place of a file', () => {
  test('is refused as a text and as flags', async () => {
    expect(await cli([...evaluation, '/dev/zero'])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/\/dev\/zero: is a device; expected a UTF-8 text file, or a pipe/),
    })
    expect(await cli([...evaluation, text, '--config', '/dev/zero'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--config: .*is a device/),
    })
  })

  test('that takes what comes is a log', async () => {
    expect(await cli([...evaluation, text, '--log-file', '/dev/null'])).toMatchObject({ code: 0 })
  })
})

test.skipIf(process.platform === 'win32')('a socket in the place of a file is called one', async () => {
  const path = join(await folderOfFile(), 'socket')
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const { code, stderr } = await cli([...evaluation, path])
  server.close()
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/socket: is a socket, .*- for standard input/),
  })
})

describe('the length of a text', () => {
  test('is counted in characters, which parts may cut in two', async () => {
    const chinese = '汉'.repeat(100)
    const parts = Array.from(Buffer.from(chinese), (byte) => Uint8Array.of(byte))
    expect(await readTextOf(Readable.from(parts), 'chinese', { most: 100 })).toBe(chinese)
    await expect(readTextOf(Readable.from(parts), 'chinese', { most: 99 })).rejects.toThrow(/99 characters/)
  })

  test('is looked at before a file is read that has too many bytes for any text', async () => {
    const path = join(await folderOfFile(), 'long.txt')
    // what would be refused as no UTF-8 if it were read
    await writeFile(path, Buffer.alloc(34, 0xff))
    await expect(readTextFile(path, { most: 10 })).rejects.toThrow(/is longer than 10 characters/)
    await expect(readTextFile(path, { most: 11 })).rejects.toThrow(/is not UTF-8 text; convert it to UTF-8$/)
  })
})

test('flags of more than a megabyte are refused', async () => {
  const config = join(await folderOfFile(), 'flags.json')
  await writeFile(config, ' '.repeat(2 ** 20 + 1))
  const { code, stderr } = await cli([...evaluation, text, '--config', config])
  expect({ code, stderr }).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/is longer than 1048576 characters/),
  })
})

describe('standard input', () => {
  const values: Readonly<Record<string, string>> = {
    text,
    out: 'never-written',
    method: 'qat',
    try: 'default',
    keepBlocks: '0',
  }
  const textFlags = commands.flatMap(({ name, flags }) =>
    Object.entries(flags).flatMap(([option, flag]) =>
      /\bUTF-8 text\b/.test(flag.help) ? [{ name, option }] : [],
    ),
  )

  test.each(textFlags)('is a text of gptvq $name by --$option -', async ({ name, option }) => {
    const { flags } = commands.find((command) => command.name === name)!
    const needed = Object.keys(flags).filter(
      (one) => (flags[one].required || one === 'keepBlocks') && one !== option,
    )
    const others = needed.flatMap((one) => [flagName(one), values[one]])
    const { code, stderr } = await cli([name, tinyLlamaFolder, ...others, flagName(option), '-'])
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringMatching(/nothing is piped/) })
    expect(flags[option].help).toContain('- for standard input')
  })

  test('is there for one text only', async () => {
    const stdin = Readable.from([await readFile(text)]) as never
    const twice = ['compare', tinyLlamaFolder, '--try', 'default', '--text', '-', '--calibration', '-']
    const { code, stderr } = await cli(twice, { stdin })
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringMatching(/holds one text/) })
  })

  test.each([['eval'], ['run']])('that brings nothing can be stopped: %s', async (name) => {
    const args = name === 'run' ? ['run', tinyLlamaFolder, '--raw'] : [...evaluation, '-']
    expect((await stoppedAtInput(args)).code).toBe(130)
  })
})
