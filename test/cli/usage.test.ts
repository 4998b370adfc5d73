import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { parseFlags } from '../../src/cli/parse/parse-flags.js'
import { editDistance, suggestion } from '../../src/common/nearest-name.js'
import { writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
let model: string

beforeAll(async () => {
  folder = await folderOfFile()
  model = join(folder, 'model')
  await writeTinyModel(model)
})

const quantize = (...flags: string[]) => ['quantize', model, '--out', join(folder, 'out'), ...flags]

describe('a wrong call exits with 2 and says in three lines or fewer what is wrong', () => {
  const cases: [name: string, args: () => string[], says: string[]][] = [
    ['no command', () => [], ['a command is missing', 'quantize, estimate, eval, compare', 'gptvq --help']],
    ['unknown command', () => ['frobnicate'], ["unknown command 'frobnicate'"]],
    ['misspelt command', () => ['quantise', 'x'], ["unknown command 'quantise'", 'Did you mean quantize?']],
    ['help on an unknown command', () => ['help', 'evl'], ["'evl'", 'Did you mean eval?']],
    ['flag before the command', () => ['--bits', '2'], ['unknown flag --bits', 'follow its name']],
    ['unknown flag', () => quantize('--frobnicate'), ['unknown flag --frobnicate', 'gptvq help quantize']],
    ['misspelt flag', () => quantize('--grup-size', '64'), ['--grup-size', 'Did you mean --group-size?']],
    ['option for a flag', () => quantize('--groupSize=64'), ['--groupSize', 'Did you mean --group-size?']],
    ['unknown short flag', () => quantize('-x'), ['unknown flag -x']],
    ['no model', () => ['quantize', '--out', 'x'], ['MODEL is missing', 'gptvq quantize MODEL']],
    ['empty model', () => ['inspect', ''], ['MODEL is missing']],
    ['two models', () => ['inspect', 'a', 'b'], ["expected one MODEL, got 'a' and 'b'"]],
    ['no output', () => ['quantize', model], ['--out DIR is missing']],
    ['no output to dequantize', () => ['dequantize', model], ['--out DIR is missing']],
    ['no text', () => ['eval', model], ['--text FILE is missing']],
    [
      'word for a number',
      () => quantize('--bits', 'two'),
      ['--bits: expected a number or mixed', "got 'two'"],
    ],
    ['fraction', () => quantize('--seed', '2.5'), ['--seed: expected a whole number', "got '2.5'"]],
    ['empty value', () => quantize('--bits='), ['--bits: expected a number or mixed', 'got nothing']],
    ['value missing', () => quantize('--bits'), ['--bits: expected a number or mixed', 'got nothing']],
    ['flag for a value', () => quantize('--bits', '--quiet'), ['--bits', 'got the flag --quiet']],
    ['hexadecimal', () => quantize('--seed', '0x10'), ['--seed: expected a whole number', "got '0x10'"]],
    ['number with a unit', () => quantize('--bpv', '2bits'), ['--bpv: expected a number', "got '2bits'"]],
    ['more than any number', () => quantize('--bpv', '1e999'), ['--bpv: expected a number', "got '1e999'"]],
    ['NaN', () => quantize('--damping', 'NaN'), ['--damping: expected a number', "got 'NaN'"]],
    ['other choice', () => quantize('--method', 'awq'), ["one of gptvq, gptq, rtn, got 'awq'"]],
    [
      'other dimension',
      () => quantize('--vector-dim', '3'),
      ["--vector-dim: expected one of 1, 2, 4, got '3'"],
    ],
    ['bytes', () => quantize('--max-shard-bytes', '5 apples'), ['--max-shard-bytes', "got '5 apples'"]],
    ['value for a switch', () => quantize('--force=yes'), ["--force: takes no value, got 'yes'"]],
    ['bits 0', () => quantize('--bits', '0'), ['--bits: expected a whole number from 1 to 8, got 0']],
    ['negative bits', () => quantize('--bits', '-1'), ['--bits: expected', 'got -1']],
    [
      'too many centroids',
      () => quantize('--bits', '8', '--vector-dim', '4'),
      ['--bits', 'smaller --vector-dim'],
    ],
    [
      'group smaller than a vector',
      () => quantize('--group-size', '1'),
      ['--group-size: a group of 1 weights is smaller than a vector of 2'],
    ],
    [
      'group of fewer vectors than centroids',
      () => quantize('--group-size', '16', '--trellis-bits', '0'),
      ['--group-size: a group of 16 weights has 8 vectors, fewer than its 16 centroids'],
    ],
    [
      'bpv below the bits',
      () => quantize('--bpv', '2', '--trellis-bits', '0'),
      ['--bpv: expected more than the 2 index bits'],
    ],
    ['bpv below any bits', () => quantize('--bpv', '0.5'), ['--bpv: 0.5 cannot be met']],
    [
      'bpv and group size',
      () => quantize('--bpv', '2.5', '--group-size', '64'),
      ['--bpv: choose --bpv (2.5) or --group-size (64), not both'],
    ],
    [
      'columns that cut a vector',
      () => quantize('--columns-per-group', '31'),
      ['--columns-per-group: expected a multiple of --vector-dim (2), got 31'],
    ],
    [
      'vector option for rtn',
      () => quantize('--method', 'rtn', '--bpv', '3'),
      ["--bpv: is of no use to method 'rtn'"],
    ],
    ['no sequences', () => quantize('--sequences', '0'), ['--sequences: expected', 'got 0']],
    ['one token', () => quantize('--sequence-length', '1'), ['--sequence-length: expected', 'got 1']],
    [
      'output over the model',
      () => ['quantize', model, '--out', model, '--force'],
      ['--out: ', 'is the folder of the model'],
    ],
    [
      'output over the folder above',
      () => ['quantize', model, '--out', folder, '--force'],
      ['--out: ', 'or contains it'],
    ],
    ['no shard', () => quantize('--max-shard-bytes', '0'), ['--max-shard-bytes: expected', 'got 0']],
  ]

  test.each(cases)('%s', async (_, args, says) => {
    const { code, stdout, stderr } = await cli(args())
    for (const words of says) expect(stderr).toContain(words)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr.startsWith('gptvq: ')).toBe(true)
    expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(3)
    expect(await readdir(folder)).toEqual(['model'])
  })
})

describe('parseFlags', () => {
  const table = {
    bits: { kind: 'whole', help: '' },
    damping: { kind: 'number', help: '' },
    maxShardBytes: { kind: 'bytes', help: '' },
    text: { kind: 'path', value: 'FILE', help: '' },
    force: { kind: 'switch', help: '' },
  } as const
  const parse = (...args: string[]) => parseFlags('test', args, table)

  test('reads values behind a space or an equals sign, in any order, beside paths', () => {
    const expected = { positionals: ['a', 'b'], values: { bits: 3, damping: 0.5, force: true, text: 'x y' } }
    expect(parse('a', '--bits', '3', '--force', 'b', '--damping=.5', '--text', 'x y')).toEqual(expected)
    expect(parse('--damping=5e-1', '--text=x y', 'a', '--force', '--bits=3', 'b')).toEqual(expected)
  })

  test('takes what follows -- as a path', () => {
    expect(parse('--force', '--', '--bits')).toEqual({ positionals: ['--bits'], values: { force: true } })
  })

  test('takes the last of several', () => {
    expect(parse('--bits', '2', '--bits', '3').values).toEqual({ bits: 3 })
  })

  test('reads every number as JavaScript writes it', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        expect(parse(`--damping=${value}`).values.damping).toBe(Number(String(value)))
      }),
    )
    fc.assert(
      fc.property(fc.maxSafeInteger(), (value) => {
        expect(parse('--bits', String(value)).values.bits).toBe(value)
      }),
    )
  })

  test.each([
    ['5e9', 5e9],
    ['500MB', 5e8],
    ['500 mb', 5e8],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['12B', 12],
  ])('reads %s as bytes', (text, bytes) => {
    expect(parse('--max-shard-bytes', text).values.maxShardBytes).toBe(bytes)
  })

  test('never throws anything but a usage error', () => {
    const word = fc.oneof(fc.string(), fc.constantFrom('--bits', '--force', '--text', '-', '--', '-h', '--='))
    fc.assert(
      fc.property(fc.array(word), (args) => {
        try {
          parse(...args)
        } catch (error) {
          expect((error as Error).name).toBe('UsageError')
        }
      }),
      { numRuns: 1000 },
    )
  })
})

describe('suggestions', () => {
  test('the edit distance is a metric that counts single changes', () => {
    expect(editDistance('kitten', 'sitting')).toBe(3)
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), (a, b, c) => {
        expect(editDistance(a, a)).toBe(0)
        expect(editDistance(a, b)).toBe(editDistance(b, a))
        expect(editDistance(a, c)).toBeLessThanOrEqual(editDistance(a, b) + editDistance(b, c))
        expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length))
      }),
    )
  })

  test('the nearest name is suggested, and none that is far', () => {
    expect(suggestion('--bit', ['--bpv', '--bits'])).toBe('. Did you mean --bits?')
    expect(suggestion('--wavelength', ['--bpv', '--bits'])).toBe('')
  })
})

test('export refuses a flag of another format, and names those there are', async () => {
  const call = async (format: string, ...flags: string[]) => {
    return cli(['export', 'nowhere', '--format', format, '--out', 'out/none', ...flags])
  }
  const onnx = await call('onnx', '--type', 'q8_0')
  expect(onnx).toMatchObject({ code: 2, stdout: '' })
  expect(onnx.stderr).toMatch(
    /--type belongs to --format gguf, not to onnx.*--weights, --encodings, --inline-bytes/,
  )
  const gguf = await call('gguf', '--inline-bytes', '1GB')
  expect(gguf).toMatchObject({ code: 2, stdout: '' })
  expect(gguf.stderr).toMatch(/--inline-bytes belongs to --format onnx/)
})
