import { execFileSync, spawnSync } from 'node:child_process'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { commands } from '../../src/cli/commands.js'
import { flagName } from '../../src/cli/flags/flags.js'
import { tinyLlamaFolder } from '../model/tiny-llama.js'
import { cli, folderOfFile } from './support.js'

const text = fileURLToPath(new URL('../../README.md', import.meta.url))
const quick = { method: 'gptq', bits: 4, sequences: 2, sequenceLength: 32, calibration: text }

async function configOf(members: unknown): Promise<string> {
  const path = join(await folderOfFile(), 'gptvq.json')
  await writeFile(path, typeof members === 'string' ? members : JSON.stringify(members))
  return path
}

const weightsOf = (folder: string) => readFile(join(folder, 'model.safetensors'))

describe('--config', () => {
  test('a file of flags writes the bytes that the flags themselves write', async () => {
    const folder = await folderOfFile()
    const [byFile, byFlags] = [join(folder, 'a'), join(folder, 'b')]
    const config = await configOf({ model: tinyLlamaFolder, out: byFile, ...quick, 'sequence-length': 32 })
    const flags = ['--method', 'gptq', '--bits', '4', '--sequences', '2', '--sequence-length', '32']
    const calls = [
      ['quantize', '--config', config, '--json'],
      ['quantize', tinyLlamaFolder, '--out', byFlags, ...flags, '--calibration', text, '--json'],
    ]
    for (const call of calls) expect(await cli(call)).toMatchObject({ code: 0 })
    expect(await weightsOf(byFile)).toEqual(await weightsOf(byFlags))
  })

  test('a flag of the command line counts before the file', async () => {
    const folder = await folderOfFile()
    const config = await configOf({ out: join(folder, 'out'), ...quick, bits: 3 })
    const { stdout } = await cli(['quantize', tinyLlamaFolder, '--config', config, '--bits', '5', '--json'])
    expect(JSON.parse(stdout).settings.bits).toBe(5)
  })

  test.each([
    ['a flag that is not there', { bitts: 2 }, /gptvq\.json: there is no flag 'bitts'.*bits/],
    [
      'a value of the wrong type',
      { bits: [true] },
      /gptvq\.json: bits: expected a string or a number, got true/,
    ],
    ['a value that the flag refuses', { method: 'gptx' }, /gptvq\.json: --method: expected one of/],
    ['a switch that is no truth value', { force: 'yes' }, /force: expected true or false/],
    ['a list', [1], /holds no JSON object/],
    ['no JSON', '{', /cannot be read as JSON/],
  ])('%s is refused, naming the file', async (_, members, message) => {
    const result = await cli(['quantize', tinyLlamaFolder, '--config', await configOf(members)])
    expect(result.code).toBe(2)
    expect(result.stderr).toMatch(message)
  })
})

describe('--log-file', () => {
  test('tells the call, progress that never falls and the result, behind what is there', async () => {
    const folder = await folderOfFile()
    const log = join(folder, 'run.log')
    await writeFile(log, '{"before":true}\n')
    const flags = ['--method', 'rtn', '--bits', '4', '--log-file', log]
    await cli(['quantize', tinyLlamaFolder, '--out', join(folder, 'out'), ...flags])
    const lines = (await readFile(log, 'utf8')).trim().split('\n')
    const [first, call, ...rest] = lines.map((line) => JSON.parse(line))
    expect(first).toEqual({ before: true })
    expect(call).toMatchObject({ command: 'quantize', model: tinyLlamaFolder, flags: { method: 'rtn' } })
    const done = rest.flatMap((line) => ('done' in line ? [line.done] : []))
    expect(done.length).toBeGreaterThan(1)
    expect(done).toEqual(done.toSorted((a, b) => a - b))
    expect(rest.at(-1).result.method).toBe('rtn')
  })

  test.skipIf(process.platform === 'win32')(
    "holds no keys and no passwords, and is its owner's alone",
    async () => {
      const log = join(await folderOfFile(), 'run.log')
      // fails on a flag, so that nothing is served
      const secrets = ['--api-key', 'TOPSECRET', '--port', '70000']
      expect((await cli(['serve', tinyLlamaFolder, ...secrets, '--log-file', log])).code).toBe(2)
      const redis = ['--redis', 'redis://user:TOPSECRET@127.0.0.1:1', '--bits', '9', '--out', `${log}.out`]
      expect((await cli(['quantize', tinyLlamaFolder, ...redis, '--log-file', log])).code).not.toBe(0)
      const text = await readFile(log, 'utf8')
      expect(text).toContain('"apiKey":"***"')
      expect(text).toContain('redis://***@127.0.0.1:1')
      expect(text).not.toContain('TOPSECRET')
      expect((await stat(log)).mode & 0o777).toBe(0o600)
    },
  )

  test('tells a failure, and one that cannot be opened is refused before the work', async () => {
    const folder = await folderOfFile()
    const log = join(folder, 'run.log')
    const failing = ['eval', tinyLlamaFolder, '--text', join(folder, 'none.txt')]
    expect((await cli([...failing, '--log-file', log])).code).toBe(1)
    expect(JSON.parse((await readFile(log, 'utf8')).trim().split('\n').at(-1)!).error).toMatch(/none\.txt/)
    const refused = await cli([...failing, '--log-file', join(folder, 'no', 'run.log')])
    expect(refused).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--log-file: .*cannot be written/),
    })
  })
})

describe('a text from standard input', () => {
  test('counts as the same text in a file', async () => {
    const call = (text: string) => ['eval', tinyLlamaFolder, '--text', text, '--windows', '2', '--json']
    const piped = await cli(call('-'), { stdin: Readable.from([await readFile(text)]) as never })
    expect(piped.stderr).not.toMatch(/gptvq:/)
    expect(JSON.parse(piped.stdout)).toEqual(JSON.parse((await cli(call(text))).stdout))
  })

  test('is asked for where nothing is piped in', async () => {
    const { code, stderr } = await cli(['eval', tinyLlamaFolder, '--text', '-'])
    expect(code).toBe(2)
    expect(stderr).toMatch(/nothing is piped/)
  })
})

describe('gptvq completion', () => {
  test.each(['bash', 'zsh', 'fish'])('%s is told every command and flag', async (shell) => {
    const { stdout, code } = await cli(['completion', shell])
    expect(code).toBe(0)
    for (const { name, flags } of commands) {
      expect(stdout).toContain(name)
      for (const option of Object.keys(flags)) expect(stdout).toContain(flagName(option).slice(2))
    }
  })

  const hasBash = spawnSync('bash', ['--version']).status === 0
  test.skipIf(!hasBash)('bash completes commands, flags and choices by it', async () => {
    const { stdout } = await cli(['completion', 'bash'])
    const complete = (words: string[]) => {
      const [word, before] = [words.at(-1), words.at(-2)]
      const set = `COMP_WORDS=(${words.map((each) => `'${each}'`).join(' ')}); COMP_CWORD=${words.length - 1}`
      const ask = `${stdout}\n${set}; _gptvq gptvq '${word}' '${before}'; echo "\${COMPREPLY[@]}"`
      return execFileSync('bash', ['-c', ask], { encoding: 'utf8' }).trim().split(' ')
    }
    expect(complete(['gptvq', 'insp'])).toEqual(['inspect'])
    expect(complete(['gptvq', 'quantize', '--metho'])).toEqual(['--method'])
    expect(complete(['gptvq', 'quantize', '--method', 'gpt'])).toEqual(['gptvq', 'gptq'])
  })

  test('another shell is refused', async () => {
    expect(await cli(['completion', 'tcsh'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/bash, zsh, fish/),
    })
  })
})

test('groups so small that codebooks and scales outweigh what was asked for are warned of', async () => {
  const out = join(await folderOfFile(), 'out')
  const flags = ['--bits', '2', '--trellis-bits', '0', '--group-size', '512', '--columns-per-group', '64']
  const quick = [
    '--sequences',
    '2',
    '--sequence-length',
    '64',
    '--calibration',
    text,
    '--refinement-rounds',
    '0',
  ]
  const { stdout, code } = await cli(['quantize', tinyLlamaFolder, '--out', out, ...flags, ...quick])
  expect(code).toBe(0)
  expect(stdout).toMatch(/warning: .* bits per value are stored where 2 were asked for/)
})
