import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { OptionError } from '../../../src/index.js'
import { quantizeModel } from '../../../src/model.js'
import { writeTinyModel } from '../../support/tiny-model.js'

let model: string
beforeAll(async () => {
  model = await mkdtemp(join(tmpdir(), 'gptvq-check-'))
  await writeTinyModel(model)
})
afterAll(() => rm(model, { recursive: true, force: true }))

it('a codebook of more centroids than a layer has vectors is refused before the work begins, naming the layer', async () => {
  const calibration = { sequences: [Int32Array.of(1, 2, 3, 4)] }
  const error = await quantizeModel({ model, calibration, vectorDim: 2, bits: 8 }).catch((e) => e)
  expect(error).toBeInstanceOf(OptionError)
  expect(error.message).toMatch(
    /^bits: model\.layers\.0\.self_attn\.q_proj\.weight: 8 bits in 2 dim.*65536 centroids.*512 vectors/,
  )
})
