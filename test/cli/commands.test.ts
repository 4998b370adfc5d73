import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { runCli } from '../../src/cli/run-cli.js'
import {
  dequantizeModel,
  evaluateModel,
  inspectModel,
  type QuantizationReport,
  quantizeModel,
} from '../../src/model.js'
import { tree } from '../checkpoint/fixtures.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
let model: string
let calibration: string
let text: string
/** The model quantized by the command line, and what it printed. */
let quantized: string
let printed: string

const at = (name: string) => join(folder, name)
const succeed = async (...args: string[]) => {
  const result = await cli(args)
  expect({ code: result.code, stderr: result.stderr.includes('gptvq:') }).toEqual({ code: 0, stderr: false })
  return result.stdout
}
const table = (stdout: string) =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.trim().split(/ {2,}/))

beforeAll(async () => {
  folder = await folderOfFile()
  model = at('model')
  calibration = at('calibration.txt')
  text = at('text.txt')
  quantized = at('quantized')
  await writeTinyModel(model)
  await writeFile(calibration, tinyText(2000, 2))
  await writeFile(text, tinyText(700, 3))
  printed = await succeed(
    'quantize',
    model,
    '--out',
    quantized,
    '--calibration',
    calibration,
    '--sequences',
    '8',
  )
})

const withoutTimes = ({ layers, ...report }: QuantizationReport) => ({
  ...report,
  seconds: null,
  layers: layers.map((layer) => ({ ...layer, seconds: null })),
})

describe('gptvq quantize', () => {
  test('writes what the library writes, byte for byte, and --json is its report', async () => {
    const options = { vectorDim: 1, bits: 3, bpv: 4, damping: 0.05, kmeansInit: 'cdf', seed: 7 } as const
    const flags = ['--vector-dim=1', '--bits=3', '--bpv=4', '--damping=0.05', '--kmeans-init=cdf', '--seed=7']
    const limits = [
      '--sequences',
      '4',
      '--sequence-length',
      '32',
      '--max-shard-bytes',
      '40kB',
      '--engine',
      'wasm',
    ]
    const output = at('by-cli')
    const stdout = await succeed(
      'quantize',
      model,
      '--out',
      output,
      '--calibration',
      calibration,
      ...flags,
      ...limits,
      '--json',
    )
    const report = await quantizeModel({
      model,
      output: at('by-library'),
      calibration,
      ...options,
      sequences: 4,
      sequenceLength: 32,
      maxShardBytes: 40_000,
      engine: 'wasm',
    })
    expect(withoutTimes(JSON.parse(stdout))).toEqual({ ...withoutTimes(report), output })
    expect(await tree(output)).toEqual(await tree(at('by-library')))
    expect((await readdir(output)).filter((name) => name.endsWith('.safetensors')).length).toBeGreaterThan(1)
  })

  test('sums up what it did in the numbers of the report', async () => {
    const { bitsPerValue, wholeModel, layerBytes, layers, outputBytes } = await quantizeModel({
      model,
      calibration,
      sequences: 8,
      output: at('again'),
    })
    const errors = layers.map(({ relativeError }) => relativeError ?? Number.NaN)
    const mean = errors.reduce((sum, error) => sum + error) / errors.length
    const worst = layers.find(({ relativeError }) => relativeError === Math.max(...errors))
    const rows = new Map(table(printed).map(([label, value]) => [label, value]))
    expect(rows.get('bits per value')).toBe(
      `${bitsPerValue.toFixed(3)}, whole model ${wholeModel.bitsPerValue.toFixed(3)}`,
    )
    const times = (layerBytes.before / layerBytes.after).toFixed(2)
    expect(rows.get('layers')).toBe(
      `14, 61.4 kB → ${(layerBytes.after / 1000).toPrecision(3)} kB, ${times} times smaller`,
    )
    expect(layerBytes.before).toBe(61440)
    expect(rows.get('layer error')).toBe(
      `mean ${mean.toPrecision(3)}, worst ${Math.max(...errors).toPrecision(3)} (${worst?.name})`,
    )
    expect(rows.get('calibration')).toBe('8 sequences of 64 tokens')
    const names = await readdir(quantized)
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(quantized, name))).size))
    expect(sizes.reduce((sum, size) => sum + size)).toBe(outputBytes)
    expect(rows.get('written')).toBe(
      `${quantized}: 4 files, ${((outputBytes ?? 0) / 1000).toPrecision(3)} kB`,
    )
    expect(rows.get('time')).toMatch(/ s \(calibration .* s, quantization .* s\)$/)
  })

  test('its settings, and those that inspect names, fit a terminal of 80 columns', async () => {
    const lines = [printed, await succeed('inspect', quantized)].flatMap((text) => text.split('\n'))
    const first = lines.findIndex((line) => line.startsWith('method '))
    const settings = lines.slice(
      first,
      lines.findIndex((line) => line.startsWith('bits per value')),
    )
    const heading = lines.findIndex((line) => line.startsWith('gptvq, vector-dim 2'))
    settings.push(...lines.slice(heading, lines.indexOf('', heading)))
    expect(settings.filter((line) => line.includes('damping')).length).toBe(2)
    expect(settings.filter((line) => line.length >= 80)).toEqual([])
    const [, ...inspected] = (await succeed('inspect', quantized)).split('\n')
    expect(inspected.filter((line) => line.length >= 80)).toEqual([])
  })

  test('names the command that measures the result, which works', async () => {
    const next = printed.split('\n').find((line) => line.startsWith('  gptvq eval ')) ?? ''
    const args = next.trim().split(' ').slice(1)
    expect(args).toEqual(['eval', quantized, '--reference', model, '--text', 'FILE'])
    await succeed(...args.slice(0, -1), text)
  })

  test('says that the model writes its own calibration text when none is given', async () => {
    const stdout = await succeed('quantize', model, '--out', at('self'), '--sequences=2')
    expect(stdout).toContain('calibrated on 2 sequences written by the model itself')
  })

  test.each(['rtn', 'gptq'])('%s: the scalar methods run by the same flags', async (method) => {
    const flags = [
      '--method',
      method,
      '--bits',
      '3',
      '--group-size',
      '16',
      ...(method === 'rtn' ? [] : ['--calibration', calibration]),
      '--json',
    ]
    const report: QuantizationReport = JSON.parse(
      await succeed('quantize', model, '--out', at(method), ...flags),
    )
    expect(report).toMatchObject({ method, settings: { bits: 3, groupSize: 16 } })
    expect(await succeed('quantize', model, '--out', at(`${method}-text`), ...flags.slice(0, -1))).toContain(
      method === 'rtn' ? 'none, rtn needs none' : 'sequences of 64 tokens',
    )
  })

  test('refuses a folder that is there, and replaces it with --force', async () => {
    const output = at('twice')
    const args = ['quantize', model, '--out', output, '--method', 'rtn']
    await succeed(...args)
    const before = await tree(output)
    const refused = await cli([...args, '--bits', '4'])
    expect(refused).toMatchObject({ code: 1, stdout: '' })
    expect(refused.stderr).toContain('replace it with --force\n')
    expect(await tree(output)).toEqual(before)
    await succeed(...args, '--bits', '4', '--force')
    expect((await inspectModel(output)).settings.bits).toBe(4)
  })

  test('progress goes to standard error, a line per block at least, and --quiet leaves it out', async () => {
    const args = ['quantize', model, '--method', 'rtn', '--out']
    const { stdout, stderr } = await cli([...args, at('loud'), '--json'])
    expect(JSON.parse(stdout)).toMatchObject({ method: 'rtn' })
    for (const step of ['block 1 of 2', 'block 2 of 2', `writing ${at('loud')}`])
      expect(stderr).toContain(step)
    expect(await cli([...args, at('silent'), '--quiet'])).toMatchObject({ code: 0, stderr: '' })
  })
})

test('on a terminal the bar is gone before the result is printed', async () => {
  const log: [stream: string, text: string][] = []
  const stream = (name: string) => ({
    isTTY: true,
    columns: 80,
    write: (written: string) => log.push([name, written]),
  })
  const streams = { stdout: stream('out'), stderr: stream('err'), env: {} }
  expect(await runCli(['eval', model, '--text', text], streams)).toBe(0)
  expect(log[0][1]).toContain('evaluating')
  expect(log.at(-2)).toEqual(['err', '\r\x1b[2K'])
  expect(log.at(-1)?.[0]).toBe('out')
})

describe('gptvq eval', () => {
  test('--json is what the library measures, for a quantized model against the plain one', async () => {
    const stdout = await succeed(
      'eval',
      quantized,
      '--reference',
      model,
      '--text',
      text,
      '--context=32',
      '--windows=5',
      '--json',
    )
    const evaluation = await evaluateModel({
      model: quantized,
      reference: model,
      text,
      context: 32,
      windows: 5,
    })
    expect(JSON.parse(stdout)).toEqual(evaluation)
    expect(evaluation.klDivergence).toBeGreaterThan(0)
  })

  test('the table holds both models, and nothing that was not measured', async () => {
    const { perplexity, klDivergence, top1Agreement, tokens, reference } = await evaluateModel({
      model: quantized,
      reference: model,
      text,
    })
    const share = `${(100 * (top1Agreement ?? 0)).toFixed(1)} %`
    const rows = table(await succeed('eval', quantized, '--reference', model, '--text', text))
    expect(rows).toEqual([
      ['perplexity', 'KL (nats/token)', 'top-1 agreement', 'tokens'],
      [quantized, perplexity.toPrecision(6), klDivergence?.toPrecision(3), share, String(tokens)],
      [`${model} (reference)`, reference?.perplexity.toPrecision(6), '-', '-', String(tokens)],
      [''],
      ['10 windows of 64 tokens'],
    ])
    const alone = table(await succeed('eval', model, '--text', text, '--windows', '1'))
    expect(alone.slice(1)).toEqual([
      [model, expect.any(String), '-', '-', '63'],
      [''],
      ['1 window of 64 tokens'],
    ])
  })

  test('a model equals itself', async () => {
    const stdout = await succeed('eval', model, '--reference', model, '--text', text, '--json')
    const { perplexity, klDivergence, top1Agreement, reference } = JSON.parse(stdout)
    expect(perplexity).toBe(reference.perplexity)
    expect(klDivergence).toBeCloseTo(0, 12)
    expect(top1Agreement).toBe(1)
  })
})

describe('gptvq inspect', () => {
  test('--json is what the library finds, in quantized and plain folders', async () => {
    for (const path of [quantized, model]) {
      expect(JSON.parse(await succeed('inspect', path, '--json'))).toEqual(await inspectModel(path))
    }
  })

  test('lists every weight, and totals that add up', async () => {
    const { weights, bytes, quantizedBitsPerValue } = await inspectModel(quantized)
    const rows = table(await succeed('inspect', quantized))
    const listed = new Map<string, string[]>()
    let format = ''
    for (const [first, ...cells] of rows) {
      if (cells.length === 0 && first.endsWith(':')) format = first.slice(0, -1)
      else listed.set(first.replace('…', 'model.layers.'), [format, ...cells])
    }
    for (const { name, shape, format, bitsPerValue, quantized: isLayer } of weights) {
      const row = listed.get(isLayer ? name.replace(/\.weight$/, '') : name)
      expect(row?.slice(0, 3)).toEqual([format, shape.join(' x '), bitsPerValue.toFixed(3)])
    }
    const total = (name: string) => rows.find(([first]) => first === name)
    expect(total('14 quantized layers, mean error')?.[1]).toBe(quantizedBitsPerValue?.toFixed(3))
    expect(total('7 other tensors')?.[1]).toBe('32.000')
    const errors = weights.flatMap(({ relativeError }) => relativeError ?? [])
    const mean = errors.reduce((sum, error) => sum + error) / errors.length
    expect(total('14 quantized layers, mean error')?.at(-1)).toBe(mean.toPrecision(3))
    expect(total('together')?.at(-1)).toBe('-')
    expect(total('together')?.[2]).toBe(`${(bytes / 1000).toPrecision(3)} kB`)
  })

  test('says of a plain folder that it is not quantized', async () => {
    const stdout = await succeed('inspect', model)
    expect(stdout).toContain('not quantized')
    expect(table(stdout).at(-1)?.slice(0, 2)).toEqual(['together', '32.000'])
  })
})

describe('gptvq dequantize', () => {
  test('in F32 the plain folder scores exactly as the quantized one', async () => {
    const output = at('plain')
    const written = JSON.parse(
      await succeed('dequantize', quantized, '--out', output, '--dtype', 'F32', '--json'),
    )
    expect(written).toMatchObject({ model: quantized, output, files: (await readdir(output)).sort() })
    expect((await inspectModel(output)).method).toBeNull()
    const scores = async (path: string) => JSON.parse(await succeed('eval', path, '--text', text, '--json'))
    expect(await scores(output)).toEqual(await scores(quantized))
  })

  test('writes what the library writes, and says so', async () => {
    const stdout = await succeed('dequantize', quantized, '--out', at('half'), '--dtype=BF16')
    const { bytes } = await dequantizeModel({
      model: quantized,
      output: at('half-by-library'),
      dtype: 'BF16',
    })
    expect(await tree(at('half'))).toEqual(await tree(at('half-by-library')))
    expect(stdout).toBe(
      `${quantized} is written as plain weights to ${at('half')}: 4 files, ${(bytes / 1000).toPrecision(3)} kB.\n`,
    )
  })

  test('refuses a plain folder', async () => {
    const { code, stderr } = await cli(['dequantize', model, '--out', at('nothing')])
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('is not quantized') })
    expect(await readdir(folder)).not.toContain('nothing')
  })
})
