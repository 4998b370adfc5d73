import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { dequantizeModel } from '../../../src/pipeline/folders/dequantize-model.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { fixtureFolder } from '../../model/families/fixture.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-config-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

// transformers refuses a whole number where it wants a fraction: 3.0 must not become 3
it.each([
  ['gemma2-caps', '"final_logit_softcapping": 3.0,'],
  ['granite-tied', '"embedding_multiplier": 3.0,'],
  ['mixtral-full', '"architectures"'],
])(
  'the config.json of %s comes back letter by letter after quantizing and dequantizing',
  async (name, part) => {
    const model = join(fixtureFolder, name)
    const [quantized, plain] = [join(folder, name), join(folder, `${name}-plain`)]
    await quantizeModel({ model, output: quantized, method: 'rtn' })
    await dequantizeModel({ model: quantized, output: plain })
    const textOf = async (place: string) => (await readFile(join(place, 'config.json'), 'utf8')).trim()
    const original = await textOf(model)
    expect(original).toContain(part)
    expect(await textOf(plain)).toBe(original)
    const between = await textOf(quantized)
    expect(between).toContain(part)
    const { quantization_config: config, ...rest } = JSON.parse(between)
    expect(rest).toEqual(JSON.parse(original))
    expect(config.quant_method).toBe('gptvq')
  },
)

it.each([
  ['gemma2-caps', 'dtype'],
  ['llama-spelling-old', 'torch_dtype'],
  // the file has none
  ['gemma-legacy-act', 'torch_dtype'],
])('the config.json of %s says by %s what dtype dequantizing was told to write', async (name, field) => {
  const model = join(fixtureFolder, name)
  const [quantized, plain] = [join(folder, `${name}-told`), join(folder, `${name}-told-plain`)]
  await quantizeModel({ model, output: quantized, method: 'rtn' })
  const configOf = async (place: string) => JSON.parse(await readFile(join(place, 'config.json'), 'utf8'))
  const original = await configOf(model)
  expect(original[field]).not.toBe('float32')
  await dequantizeModel({ model: quantized, output: plain, dtype: 'F32' })
  expect(await configOf(plain)).toEqual({ ...original, [field]: 'float32' })
  await dequantizeModel({ model: quantized, output: plain, dtype: 'F16', force: true })
  expect(await configOf(plain)).toEqual({ ...original, [field]: 'float16' })
})
