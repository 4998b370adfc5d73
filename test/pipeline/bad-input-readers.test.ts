import { cp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  CheckpointError,
  GptvqError,
  NumericError,
  OptionError,
  TextError,
  UnsupportedError,
} from '../../src/common/errors.js'
import {
  dequantizeModel,
  type EvaluateModelOptions,
  evaluateModel,
  inspectModel,
  quantizeModel,
} from '../../src/model.js'
import { errorOf, tree } from '../checkpoint/fixtures.js'
import { cli } from '../cli/support.js'
import { type TinyTensor, tinyText, writeTinyModel } from '../support/tiny-model.js'
import { badModels, badToRun, type ErrorClass, edit, up } from './bad-input-cases.js'
import { caseFolder, earlierOutput } from './bad-input-folders.js'

let folder: string
let model: string
let output: string

beforeEach(async () => {
  ;({ folder, model, output } = await caseFolder())
})

afterEach(() => rm(folder, { recursive: true, force: true }))

describe('evaluateModel', () => {
  const text = { text: tinyText(300) }
  const badTexts: Record<string, [options: Partial<EvaluateModelOptions>, error: ErrorClass, says: RegExp]> =
    {
      'a text that is too short': [{ text: { text: tinyText(63) } }, TextError, /63 tokens.*needs 64/],
      'a text that is not there': [{ text: join('nowhere', 'x.txt') }, TextError, /x\.txt: cannot be read/],
      'a context beyond that of the model': [{ context: 65 }, OptionError, /context: .*65.*64/],
      'a context of one token': [{ context: 1 }, OptionError, /context: .*1/],
      'no windows': [{ windows: 0 }, OptionError, /windows: .*0/],
      'windows in parts': [{ windows: 1.5 }, OptionError, /windows: .*1\.5/],
      'an unknown engine': [{ engine: 'gpu' as 'wasm' }, OptionError, /engine: .*gpu/],
      'a reference that is not there': [
        { reference: 'nowhere' },
        CheckpointError,
        /nowhere: there is no such folder/,
      ],
    }

  test.each(Object.entries(badTexts))('refuses %s', async (_, [options, type, says]) => {
    await writeTinyModel(model)
    const error = await errorOf(evaluateModel({ model, text, ...options }))
    expect(error).toBeInstanceOf(type)
    expect(error.message).toMatch(says)
  })

  test.each(Object.entries({ ...badModels, ...badToRun }).filter(([, bad]) => bad.options === undefined))(
    'refuses %s',
    async (_, bad) => {
      await writeTinyModel(model, bad.model)
      await bad.prepare?.(model)
      const error = await errorOf(evaluateModel({ model, text }))
      expect(error).toBeInstanceOf(bad.error)
    },
  )

  test('refuses a reference of another vocabulary', async () => {
    await writeTinyModel(model)
    const reference = join(folder, 'reference')
    const enlarge = ({ shape, values }: TinyTensor) => ({
      shape: [260, shape[1]],
      values: Float32Array.from({ length: 260 * shape[1] }, (_, i) => values[i] ?? 0),
    })
    await writeTinyModel(reference, {
      config: { vocab_size: 260 },
      tensors(tensors) {
        for (const name of ['model.embed_tokens.weight', 'lm_head.weight']) {
          const tensor = tensors.get(name)
          if (tensor) tensors.set(name, enlarge(tensor))
        }
      },
    })
    const error = await errorOf(evaluateModel({ model, reference, text }))
    expect(error).toBeInstanceOf(UnsupportedError)
    expect(error.message).toMatch(/258.*260/)
  })

  test('refuses NaN in the head, and logits that overflow', async () => {
    const damage = (change: (values: Float32Array) => void) =>
      writeTinyModel(model, { tensors: edit('lm_head.weight', ({ values }) => change(values)) })
    await damage((values) => {
      values[40] = Number.NaN
    })
    const damaged = await errorOf(evaluateModel({ model, text }))
    expect(damaged).toBeInstanceOf(NumericError)
    expect(damaged.message).toMatch(/lm_head\.weight.*NaN at row 1, column 8/)
    await damage((values) => values.fill(3e38))
    const overflowing = await errorOf(evaluateModel({ model, text }))
    expect(overflowing).toBeInstanceOf(NumericError)
    expect(overflowing.message).toMatch(/NaN|Infinity/)
  })
})

describe('a damaged quantized folder', () => {
  beforeEach(() => cp(earlierOutput(), model, { recursive: true }))

  const refusedByAll = async (says: RegExp) => {
    const before = await tree(folder)
    const text = { text: tinyText(300) }
    const errors = [
      await errorOf(evaluateModel({ model, text })),
      await errorOf(dequantizeModel({ model, output })),
      await errorOf(inspectModel(model)),
    ]
    for (const error of errors) {
      expect(error).toBeInstanceOf(GptvqError)
      expect(error.message).toMatch(says)
    }
    expect(await cli(['dequantize', model, '--out', output, '--quiet'])).toMatchObject({
      code: 1,
      stdout: '',
    })
    expect(await tree(folder)).toEqual(before)
  }

  const editConfig = async (change: (quantization: Record<string, unknown>) => void) => {
    const file = join(model, 'config.json')
    const config = JSON.parse(await readFile(file, 'utf8'))
    change(config.quantization_config)
    await writeFile(file, JSON.stringify(config))
  }

  test('truncated halfway is refused', async () => {
    const file = join(model, 'model.safetensors')
    await truncate(file, Math.floor((await readFile(file)).length / 2))
    await refusedByAll(/model\.safetensors/)
  })

  test('of a later version is refused', async () => {
    await editConfig((quantization) => {
      quantization.version = 99
    })
    await refusedByAll(/version/)
  })

  test('of another method is refused', async () => {
    await editConfig((quantization) => {
      quantization.quant_method = 'bitsandbytes'
    })
    await refusedByAll(/bitsandbytes/)
  })

  test('that names a layer which is not there is refused', async () => {
    await editConfig((quantization) => {
      const modules = quantization.modules as Record<string, unknown>
      modules['model.layers.9.mlp.up_proj'] = modules['model.layers.1.mlp.up_proj']
      delete modules['model.layers.1.mlp.up_proj']
    })
    await refusedByAll(/model\.layers\.[19]\.mlp\.up_proj/)
  })
})

describe('dequantizeModel', () => {
  test('refuses a plain folder, an unknown dtype and an output that exists', async () => {
    await writeTinyModel(model)
    await cp(earlierOutput(), output, { recursive: true })
    const before = await tree(folder)
    const plain = await errorOf(dequantizeModel({ model, output: join(folder, 'new') }))
    expect(plain).toBeInstanceOf(CheckpointError)
    expect(plain.message).toMatch(/model: is not quantized/)
    const dtype = await errorOf(
      dequantizeModel({ model: output, output: join(folder, 'new'), dtype: 'F8' as 'F16' }),
    )
    expect(dtype).toBeInstanceOf(OptionError)
    expect(dtype.message).toMatch(/dtype: .*F32, F16, BF16.*F8/)
    const occupied = await errorOf(dequantizeModel({ model: earlierOutput(), output }))
    expect(occupied).toBeInstanceOf(CheckpointError)
    expect(occupied.message).toMatch(/output: exists/)
    expect(await tree(folder)).toEqual(before)
  })

  test('refuses to store as F16 what F16 cannot hold', async () => {
    const large = edit(up, ({ values }) => {
      values[0] = 1e5
      values[1] = -1e5
    })
    await writeTinyModel(model, { tensors: large })
    await quantizeModel({ model, output, method: 'rtn', bits: 8 })
    const before = await tree(folder)
    const error = await errorOf(dequantizeModel({ model: output, output: join(folder, 'new'), dtype: 'F16' }))
    expect(error).toBeInstanceOf(NumericError)
    expect(error.message).toMatch(/up_proj\.weight: value .* beyond the range of F16.*choose BF16 or F32/)
    expect(await tree(folder)).toEqual(before)
  })
})
