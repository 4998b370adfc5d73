import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { QuantizationReport } from '../../src/model.js'
import { makeMassive, tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
const quantize = async (model: string, out: string, ...flags: string[]) => {
  const texts = [
    '--calibration',
    join(folder, 'calibration.txt'),
    '--sequences',
    '2',
    '--sequence-length',
    '32',
  ]
  const paths = [join(folder, model), '--out', join(folder, out)]
  const { code, stdout } = await cli(['quantize', ...paths, ...texts, ...flags])
  expect(code).toBe(0)
  return stdout
}
/** What is printed without and with `--json`. */
const both = async (model: string, ...flags: string[]) => {
  const text = await quantize(model, `${model}-text`, '--force', ...flags)
  const report: QuantizationReport = JSON.parse(
    await quantize(model, `${model}-json`, '--force', '--json', ...flags),
  )
  return { text, layers: report.layers }
}

beforeAll(async () => {
  folder = await folderOfFile()
  await writeTinyModel(join(folder, 'ordinary'))
  await writeTinyModel(join(folder, 'massive'), { tensors: (tensors) => makeMassive(tensors, 256) })
  await writeFile(join(folder, 'calibration.txt'), tinyText(2000, 2))
})

describe('gptvq quantize with drift correction', () => {
  test('says how far layers were moved, in the numbers of the report', async () => {
    const { text, layers } = await both('ordinary')
    const moves = layers.map(({ drift }) => drift!.move)
    const mean = moves.reduce((sum, move) => sum + move) / moves.length
    const most = Math.max(...moves)
    const { name } = layers.find(({ drift }) => drift!.move === most)!
    expect(text).toContain(`mean ${mean.toPrecision(3)} of the norm, most ${most.toPrecision(3)} (${name})`)
    expect(layers.every(({ drift }) => drift!.unboundedMove === drift!.move)).toBe(true)
    expect(text).not.toContain('warning')
  })

  test('warns in one line of the layers that the bound held back, and names them', async () => {
    const { text, layers } = await both('massive', '--trellis-bits', '0', '--token-weights', 'equal')
    const held = layers.filter(({ drift }) => drift!.unboundedMove > drift!.move)
    expect(held.length).toBeGreaterThan(0)
    expect(held.length).toBeLessThan(8)
    const warnings = text.split('\n').filter((line) => line.startsWith('warning: '))
    expect(warnings.length).toBe(1)
    const names = held.map(({ name }) => name).join(', ')
    const count = `${held.length} layer${held.length === 1 ? '' : 's'}`
    expect(warnings[0]).toContain(`drift correction was held back in ${count}: ${names}. `)
  })

  test('says nothing of it where drift is not corrected', async () => {
    const { text, layers } = await both('massive', '--drift-correction', '0')
    expect(layers.every(({ drift }) => drift === null)).toBe(true)
    expect(text).not.toContain('drift moved')
    expect(text).not.toContain('warning')
  })
})
