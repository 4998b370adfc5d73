import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { inspectModel, type QuantizationReport } from '../../src/model.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
let model: string
const quantize = (out: string, ...flags: string[]) =>
  cli([
    ...['quantize', model, '--out', join(folder, out), '--calibration', join(folder, 'calibration.txt')],
    ...['--sequences', '8', '--bits', 'mixed', ...flags],
  ])

beforeAll(async () => {
  folder = await folderOfFile()
  model = join(folder, 'model')
  await writeTinyModel(model)
  await writeFile(join(folder, 'calibration.txt'), tinyText(2000, 2))
})

describe('gptvq quantize --bits mixed', () => {
  test('sums up which bits the layers were given, in the numbers of the report', async () => {
    const { code, stdout } = await quantize('summary', '--bpv', '2.25')
    expect(code).toBe(0)
    const json = await quantize('json', '--bpv', '2.25', '--json')
    const { mixed, bitsPerValue, wholeModel }: QuantizationReport = JSON.parse(json.stdout)
    expect(stdout).toContain('bits mixed, ')
    const [, ofLayers, ofAll] = /^bits per value +(.*), whole model (.*)$/m.exec(stdout)!
    expect(ofLayers).toBe(bitsPerValue.toFixed(3))
    expect(ofAll).toBe(wholeModel.bitsPerValue.toFixed(3))
    const listed = /^mixed bits +(.*)\n +predicted KL (.*)$/m.exec(stdout)!
    expect(listed[2]).toBe(mixed!.divergence.toPrecision(3))
    const bits = mixed!.layers.map((layer) => Number(layer.bits.toFixed(2)))
    expect(listed[1]).toBe(`${Math.min(...bits)} to ${Math.max(...bits)} bits in 14 layers`)
    expect(stdout).toMatch(/^time +.*sensitivity [\d.]+ s/m)
  })

  test('takes 2.125 bits per value for the budget when none is given', async () => {
    const { code } = await quantize('default')
    expect(code).toBe(0)
    const { quantizedBitsPerValue, settings } = await inspectModel(join(folder, 'default'))
    expect(settings).toMatchObject({ bits: 'mixed', bpv: 2.125 })
    expect(quantizedBitsPerValue).toBeLessThanOrEqual(2.125)
  })

  test('refuses a budget that cannot be met, and a group size, in the words of the flags', async () => {
    for (const [flags, says] of [
      [['--bpv', '0.5'], '--bpv: 0.5 cannot be met: with --vector-dim 2 the layers take'],
      [['--group-size', '512'], "--group-size: bits 'mixed' chooses the group size of each layer"],
      [['--method', 'gptq'], "--bits: 'mixed' works with method 'gptvq' only"],
    ] as const) {
      const { code, stderr } = await quantize('refused', ...flags)
      expect(code).toBe(2)
      expect(stderr).toContain(says)
    }
  })
})
