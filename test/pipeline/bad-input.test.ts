import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AbortedError, CheckpointError, NumericError, OptionError } from '../../src/common/errors.js'
import { type QuantizeModelOptions, quantizeModel } from '../../src/model.js'
import { errorOf, tree } from '../checkpoint/fixtures.js'
import { cli } from '../cli/support.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { type BadInput, badModels, badOptions, badToRun } from './bad-input-cases.js'
import { caseFolder, earlierOutput, expectError } from './bad-input-folders.js'

let folder: string
let model: string
let output: string

beforeEach(async () => {
  ;({ folder, model, output } = await caseFolder())
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const calibration = { text: tinyText(600) }

type Options = Omit<QuantizeModelOptions, 'model'> & { readonly model: string }

async function prepareCase(bad: BadInput): Promise<Options> {
  await writeTinyModel(model, bad.model)
  await bad.prepare?.(model)
  return { model, output, calibration, ...(bad.options as Partial<Options>) }
}

/** What is there but for what `--resume` goes on with, which lies beside the output. */
async function writtenIn(folder: string): Promise<Record<string, string>> {
  const files = Object.entries(await tree(folder))
  return Object.fromEntries(files.filter(([path]) => !path.startsWith('.output.unfinished')))
}

/** What a case may leave: NaN may be met behind the first block, which is kept then. */
const leftBy = ({ error }: BadInput) => (error === NumericError ? writtenIn(folder) : tree(folder))

/** The flags that give the same call on the command line; calibration becomes a file beside the model. */
async function flagsOf(options: Options): Promise<string[]> {
  const { calibration, model, output, ...rest } = options
  const flags = ['quantize', model, '--out', String(output)]
  for (const [name, value] of Object.entries(rest)) {
    flags.push(`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}=${value}`)
  }
  if (calibration === undefined) return flags
  if (typeof calibration === 'string') return [...flags, '--calibration', calibration]
  if (!('text' in calibration)) throw new Error('no flag gives token ids')
  const file = join(folder, 'calibration.txt')
  await writeFile(file, calibration.text)
  return [...flags, '--calibration', file]
}

const hasFlags = ({ options }: BadInput) =>
  typeof options?.calibration !== 'object' || 'text' in options.calibration
describe.each(Object.entries({ ...badModels, ...badToRun, ...badOptions }))('%s', (_, bad) => {
  test('quantizeModel refuses it, names it, and writes nothing', async () => {
    const options = await prepareCase(bad)
    const before = await tree(folder)
    expectError(await errorOf(quantizeModel(options)), bad)
    expect(await leftBy(bad)).toEqual(before)
  })

  test('quantizeModel leaves the earlier output as it was', async () => {
    const options = await prepareCase(bad)
    await cp(earlierOutput(), output, { recursive: true })
    const before = await tree(folder)
    expectError(await errorOf(quantizeModel({ ...options, force: true })), bad)
    expect(await leftBy(bad)).toEqual(before)
  })
})

const badCalls = Object.entries({ ...badModels, ...badToRun, ...badOptions }).filter(([, bad]) =>
  hasFlags(bad),
)

test.each(badCalls)('%s: the command line exits with 2 for an option, else with 1', async (_, bad) => {
  const args = await flagsOf(await prepareCase(bad))
  const before = await tree(folder)
  const { code, stdout, stderr } = await cli([...args, '--quiet'])
  expect({ code, stdout }).toEqual({ code: bad.error === OptionError ? 2 : 1, stdout: '' })
  expect(stderr).toMatch(/^gptvq: /)
  expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(3)
  expect(stderr).not.toContain('bug')
  expect(await leftBy(bad)).toEqual(before)
})

/** RTN refuses the options of a calibration that it has no use for. */
const rtn = {
  method: 'rtn',
  calibration: undefined,
  sequences: undefined,
  sequenceLength: undefined,
} as const

test.each(Object.entries(badModels))('rtn, which runs no model, refuses %s too', async (_, bad) => {
  const options = await prepareCase(bad)
  const before = await tree(folder)
  expectError(await errorOf(quantizeModel({ ...options, ...rtn })), bad)
  expect(await tree(folder)).toEqual(before)
})

describe('output that cannot be written', () => {
  beforeEach(() => writeTinyModel(model))

  const refuse = async (place: string, says: RegExp, force = false) => {
    const before = await tree(folder)
    const error = await errorOf(quantizeModel({ model, output: place, method: 'rtn', force }))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(says)
    expect(await tree(folder)).toEqual(before)
    const flags = ['--method', 'rtn', '--quiet', ...(force ? ['--force'] : [])]
    expect(await cli(['quantize', model, '--out', place, ...flags])).toMatchObject({ code: 1, stdout: '' })
    expect(await tree(folder)).toEqual(before)
  }

  test('a folder below a file is refused', async () => {
    await writeFile(join(folder, 'file'), 'mine')
    await refuse(join(folder, 'file', 'output'), /cannot write .*output/)
  })

  test('a file is refused, also with force', async () => {
    await writeFile(output, 'mine')
    await refuse(output, /output: is a file/)
    await refuse(output, /output: is a file/, true)
  })

  test('an output that exists is refused without force', async () => {
    await cp(earlierOutput(), output, { recursive: true })
    await refuse(output, /output: exists and is not empty.*--force/)
  })

  test('a folder that is no model is refused even with force', async () => {
    await mkdir(output)
    await writeFile(join(output, 'thesis.txt'), 'mine')
    await refuse(output, /does not look like a model folder/, true)
  })

  test('a name that the file system cannot hold is refused', async () => {
    await refuse(join(folder, 'x'.repeat(300)), /cannot write/)
  })
})

test('a model that is quantized already is refused, and the way back is named', async () => {
  await cp(earlierOutput(), model, { recursive: true })
  const before = await tree(folder)
  for (const options of [{ calibration }, rtn]) {
    const error = await errorOf(quantizeModel({ model, output, ...options }))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/model: is quantized already \(method rtn\).*gptvq dequantize/)
  }
  expect(await cli(['quantize', model, '--out', output, '--quiet'])).toMatchObject({ code: 1, stdout: '' })
  expect(await tree(folder)).toEqual(before)
})

describe('a signal', () => {
  const stopAt = async (words: string, options: Partial<QuantizeModelOptions>) => {
    await writeTinyModel(model)
    await cp(earlierOutput(), output, { recursive: true })
    const before = await tree(folder)
    const controller = new AbortController()
    const onProgress = ({ step }: { step: string }) => {
      if (step.includes(words)) controller.abort()
    }
    const { signal } = controller
    const error = await errorOf(
      quantizeModel({ model, output, force: true, calibration, onProgress, signal, ...options }),
    )
    expect(error).toBeInstanceOf(AbortedError)
    expect(await writtenIn(folder)).toEqual(before)
  }

  test.each([
    'block 1 of 2: collecting Hessians',
    'block 1 of 2: quantizing mlp.down_proj',
    'block 1 of 2: running the quantized layers',
    'block 2 of 2: quantizing self_attn.q_proj',
    'block 2 of 2: quantizing mlp.down_proj',
  ])('in "%s" stops the work, and the earlier output is as it was', (words) => stopAt(words, {}))

  test('stops the model while it writes its own calibration text', () =>
    stopAt('writing calibration text', { calibration: undefined, sequences: 2 }))

  test('stops gptq', () => stopAt('block 2 of 2', { method: 'gptq' }))
  test('stops rtn', () => stopAt('block 2 of 2', rtn))
  test('stops all just before the folder is moved to its place', () => stopAt('writing', rtn))

  test('that has fired already stops all before it begins', () =>
    stopAt('nothing', { signal: AbortSignal.abort() }))
})
