import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type QuantizeModelOptions, quantizeModel } from '../../../src/model.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

const pruned = 'model.layers.1.mlp.up_proj'
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-notes-'))
  await writeTinyModel(join(folder, 'dense'))
  await writeTinyModel(join(folder, 'pruned'), {
    tensors: (tensors) => {
      const { values } = tensors.get(`${pruned}.weight`)!
      for (let i = 0; i < values.length; i += 2) values[i] = 0
    },
  })
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const reportOf = (model: string, options: Partial<QuantizeModelOptions> = {}) =>
  quantizeModel({
    ...{ model: join(folder, model), calibration: { text: tinyText(600) }, sequences: 2, sequenceLength: 32 },
    ...{ refinementRounds: 0, columnsPerGroup: 32, ...options },
  })

describe('notes on a trellis that does not suit', () => {
  it('are none by default', async () => {
    expect((await reportOf('dense')).notes).toEqual([])
  })

  it('tell of groups of few rows, where layers have more, and of the way out', async () => {
    const { notes } = await reportOf('dense', { groupSize: 8 * 32 })
    expect(notes).toEqual([
      expect.stringMatching(/^groupSize starts the trellis of 14 layers .*every 8.*trellisBits 0/),
    ])
    expect((await reportOf('dense', { groupSize: 8 * 32, trellisBits: 0 })).notes).toEqual([])
    expect((await reportOf('dense', { groupSize: 64 * 32 })).notes).toEqual([])
  })

  it('tell of layers with many zeros, and count them before drift is made up for', async () => {
    const { notes, layers } = await reportOf('pruned')
    expect(layers.find(({ name }) => name === pruned)?.zeros).toBe(0.5)
    expect(layers.every(({ name, zeros }) => name === pruned || zeros === 0)).toBe(true)
    expect(notes).toEqual([
      expect.stringMatching(new RegExp(`of 1 layer is .*zero \\(${pruned}: 50 percent\\).*trellisBits 0`)),
    ])
    expect((await reportOf('pruned', { trellisBits: 0, groupSize: 48 * 32 })).notes).toEqual([])
    const set = [{ match: '*.up_proj', options: { trellisBits: 0, groupSize: 48 * 32 } }]
    expect((await reportOf('pruned', { set })).notes).toEqual([])
  })
})
