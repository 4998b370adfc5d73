import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../src/checkpoint/checkpoint.js'
import {
  dequantize,
  dequantizeModel,
  inspectModel,
  type QuantizedLayer,
  quantizeModel,
} from '../../../src/model.js'
import { cli } from '../../cli/support.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

let folder: string
let model: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-order-'))
  model = join(folder, 'model')
  await writeTinyModel(model)
})

afterAll(() => rm(folder, { recursive: true, force: true }))

describe('a model quantized in activation order', () => {
  it('is stored with the order of every layer, and read back bit for bit', async () => {
    const output = join(folder, 'quantized')
    const layers = new Map<string, QuantizedLayer>()
    const report = await quantizeModel({
      model,
      output,
      calibration: { text: tinyText(600) },
      columnOrder: 'activation',
      bpv: 5,
      columnsPerGroup: 16,
      onLayer: (name, layer) => layers.set(name, layer),
    })
    expect(report.bitsPerValue).toBeLessThanOrEqual(5)
    expect(layers.size).toBe(14)
    const { weights, settings, quantizedBitsPerValue } = await inspectModel(output)
    expect(settings).toMatchObject({ columnOrder: 'activation' })
    expect(quantizedBitsPerValue).toBeCloseTo(report.bitsPerValue, 12)
    const formats = weights.filter(({ quantized }) => quantized).map(({ format }) => format)
    for (const format of formats) expect(format).toMatch(/^vq 1-D, [\d.]+ bits, reordered$/)
    const plain = join(folder, 'plain')
    await dequantizeModel({ model: output, output: plain, dtype: 'F32' })
    const read = await openCheckpoint(plain)
    for (const [name, layer] of layers) {
      expect(await read.readFloats(name)).toEqual(dequantize(layer).data)
    }
    expect(read.tensors.size).toBe((await inspectModel(model)).weights.length)
    await read.close()
  })

  it('is what --column-order activation makes', async () => {
    const output = join(folder, 'by-flag')
    const flags = ['--column-order', 'activation', '--bpv', '5', '--columns-per-group', '16', '--quiet']
    expect(await cli(['quantize', model, '--out', output, ...flags])).toMatchObject({ code: 0 })
    expect((await inspectModel(output)).settings).toMatchObject({ columnOrder: 'activation' })
  })
})
