import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { commands } from '../../src/cli/commands.js'
import {
  commonFlags,
  dequantizeFlags,
  evalFlags,
  type FlagTable,
  flagName,
  quantizeFlags,
} from '../../src/cli/flags/flags.js'
import { parseFlags, requireFlags } from '../../src/cli/parse/parse-flags.js'
import { kmeansInits } from '../../src/codebook/seeds.js'
import { engineNames } from '../../src/model/ops/engine.js'
import { plainDtypes } from '../../src/pipeline/folders/dequantize-model.js'
import { quantizationMethods, resolveMethod } from '../../src/pipeline/quantize/quantize-options.js'
import { cli } from './support.js'

/** Help wraps lines: compare its words. */
const words = (text: string) => text.split(/\s+/).join(' ')

describe('gptvq --help', () => {
  test('names every command and succeeds', async () => {
    const help = await cli(['--help'])
    expect(help).toMatchObject({ code: 0, stderr: '' })
    for (const { name, summary } of commands) {
      expect(help.stdout).toContain(name)
      expect(words(help.stdout)).toContain(words(summary))
    }
  })

  test('help and -h say the same', async () => {
    const help = await cli(['--help'])
    expect(await cli(['help'])).toEqual(help)
    expect(await cli(['-h'])).toEqual(help)
  })
})

test('--version prints the version of package.json', async () => {
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'))
  expect(await cli(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  expect((await cli(['-v'])).stdout).toBe(`${version}\n`)
})

describe.each(commands)('gptvq $name --help', ({ name, flags, examples, argument, second }) => {
  test('explains every flag with its default, and shows examples', async () => {
    const { code, stdout, stderr } = await cli([name, '--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const table: FlagTable = { ...flags, ...commonFlags }
    for (const [option, flag] of Object.entries(table)) {
      const entry = words(stdout.slice(stdout.search(new RegExp(`${flagName(option)}( |\\n)`))))
      expect(entry).toContain(flag.help)
      if (flag.default !== undefined) expect(entry).toContain(`(default: ${flag.default})`)
    }
    const whole = stdout.replaceAll(/ \\\n +/g, ' ')
    for (const example of examples) expect(whole).toContain(`gptvq ${example}`)
  })

  test('is the same as gptvq help, and answers even beside wrong flags', async () => {
    const help = await cli([name, '--help'])
    expect(await cli(['help', name])).toEqual(help)
    expect(await cli([name, '--nonsense', '-h'])).toEqual(help)
  })

  test('shows examples that are right', () => {
    for (const example of examples) {
      const [command, ...args] = example.split(' ')
      const table = { ...flags, ...commonFlags }
      const parsed = parseFlags(command, args, table)
      requireFlags(command, parsed, table)
      expect({ command, paths: parsed.positionals.length }).toEqual({
        command: name,
        paths: Number(argument !== undefined) + Number(second !== undefined),
      })
    }
  })

  test.each([80, 100])('fits a terminal of %i columns', async (columns) => {
    const { stdout } = await cli([name, '--help'], { columns })
    expect(stdout.split('\n').filter((line) => line.length >= columns)).toEqual([])
  })
})

describe('the table of flags', () => {
  test('states the defaults that the library has', () => {
    const stated = resolveMethod('gptvq', {}).stated
    for (const [option, value] of Object.entries(stated)) {
      if (option === 'bpv' || option === 'scaleBlockSize') continue
      expect({ option, default: quantizeFlags[option as keyof typeof quantizeFlags] }).toMatchObject({
        option,
        default: { default: expect.stringMatching(new RegExp(`^${value}(;|$)|^12 less `)) },
      })
    }
    expect(stated.bpv).toBe(Number(stated.bits) + 0.125)
    expect(quantizeFlags.bpv.default).toBe('--bits + 0.125')
    expect(stated.scaleBlockSize).toBe(64)
    expect(quantizeFlags.scaleBlockSize.default).toMatch(/^64; none where/)
    expect(resolveMethod('rtn', {}).stated.groupSize).toBe(128)
    expect(quantizeFlags.groupSize.default).toContain('128 for gptq and rtn')
  })

  test('offers the choices that the library has', () => {
    expect(quantizeFlags.engine.choices).toEqual(engineNames)
    expect(evalFlags.engine.choices).toEqual(engineNames)
    expect(quantizeFlags.method.choices).toEqual(quantizationMethods)
    expect(quantizeFlags.kmeansInit.choices).toEqual(kmeansInits)
    expect(dequantizeFlags.dtype.choices).toEqual(plainDtypes)
  })
})

test('a flag that takes a text does not take -h for a call for help', async () => {
  const { code, stderr } = await cli(['run', 'model', '--prompt', '-h'])
  expect({ code, stderr }).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--prompt: expected a text, got the flag -h/),
  })
})

test('groups name flags that are there, each once', () => {
  for (const { flags, groups = [] } of commands) {
    const named = groups.flatMap(([, options]) => options)
    expect(named.filter((option) => !(option in flags))).toEqual([])
    expect(new Set(named).size).toBe(named.length)
  }
})
