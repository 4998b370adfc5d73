import { beforeAll, describe, expect, test } from 'vitest'
import { NumericError } from '../../src/common/errors.js'
import { finiteJson } from '../../src/common/finite-json.js'
import { dequantizeModel, evaluateModel, quantizeModel, writeReport } from '../../src/model.js'
import { meanScores } from '../../src/pipeline/evaluate/evaluation-scores.js'
import { cli, folderOfFile } from '../cli/support.js'
import { withConfig, withWeights } from '../support/edit-model.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'

let folder: string
let model: string
let vq: string
const at = (name: string) => `${folder}/${name}`
const scales = 'model.layers.0.mlp.down_proj.vq_codebook_scales'

beforeAll(async () => {
  folder = await folderOfFile()
  model = (await writeTinyModel(at('model'))).folder
  vq = at('vq')
  await quantizeModel({
    ...{ model, output: vq, calibration: { text: tinyText(300) }, sequences: 4, sequenceLength: 32 },
    ...{ refinementRounds: 0, kmeansIterations: 2, restarts: 1, driftCorrection: 0 },
  })
})

describe('nothing that is not finite is written or reported', () => {
  test('a finite scale that makes infinite weights is refused by every reader, and nothing is written', async () => {
    const broken = await withWeights(vq, at('broken'), ({ header, data }) => {
      data.writeUInt16LE(0x7f7f, header[scales].data_offsets[0])
    })
    const text = { text: tinyText(100) }
    const calls = [
      () => dequantizeModel({ model: broken, output: at('never'), dtype: 'F32' }),
      () => evaluateModel({ model: broken, text, context: 16, windows: 1 }),
      () => writeReport({ model: broken, output: at('never.html') }),
    ]
    for (const call of calls)
      await expect(call()).rejects.toThrow(/vq_codebook_scales: a scale makes infinite/)
  })

  test('a weight that a narrower dtype cannot hold', async () => {
    // 2^126 times a few: finite as float32 and bfloat16, not as a half
    const large = await withWeights(vq, at('large'), ({ header, data }) => {
      data.writeUInt16LE(0x4f80, header[scales].data_offsets[0])
    })
    await expect(dequantizeModel({ model: large, output: at('never'), dtype: 'F16' })).rejects.toThrow(
      /beyond the range of F16/,
    )
    await dequantizeModel({ model: large, output: at('large-plain'), dtype: 'BF16' })
  })

  test('numbers of config.json that overflow', async () => {
    const config = await withConfig(vq, at('overflow'), (fields) => {
      fields.rms_norm_eps = 'REPLACED'
    })
    const { readFile, writeFile } = await import('node:fs/promises')
    const path = `${config}/config.json`
    await writeFile(path, (await readFile(path, 'utf8')).replace('"REPLACED"', '1e999'))
    const { code, stderr } = await cli(['inspect', config, '--json'])
    expect(code).toBe(1)
    expect(stderr).toContain('holds a number beyond the range of float64')
  })

  test('a perplexity beyond float64, and a mean that is none', () => {
    const sums = { tokens: 2, nll: 4, kl: 1, agreements: 1 }
    expect(meanScores(sums, true).perplexity).toBeCloseTo(Math.exp(2))
    expect(() => meanScores({ ...sums, nll: 2000 }, false)).toThrow(/1000 nats per token/)
    expect(() => meanScores({ ...sums, nll: Number.NaN }, false)).toThrow(NumericError)
    expect(() => meanScores({ ...sums, kl: Number.POSITIVE_INFINITY }, true)).toThrow(NumericError)
  })

  test('no document holds null for a number', () => {
    expect(finiteJson({ a: [1, null], b: 'NaN' })).toBe('{"a":[1,null],"b":"NaN"}')
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => finiteJson({ layers: [{ error: value }] })).toThrow(`error is ${value}; expected a finite`)
    }
  })
})
