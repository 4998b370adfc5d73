import { join } from 'node:path'
import { expect, test } from 'vitest'
import { writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

test('gptvq quantize-tensors quantizes a model of a family that there is not', async () => {
  const folder = await folderOfFile()
  const model = join(folder, 'model')
  await writeTinyModel(model, { config: { model_type: 'perceiver' } })
  const out = join(folder, 'out')
  const flags = ['--out', out, '--tensors', '*.mlp.*', '--group-size', '16', '--quiet']
  const { code, stdout } = await cli(['quantize-tensors', model, ...flags])
  expect(code).toBe(0)
  expect(stdout).toMatch(/^6 weights of .* at 5.25\d* bits per value, by rtn; written to /)
  const again = await cli(['quantize-tensors', model, ...flags, '--force', '--json'])
  expect(JSON.parse(again.stdout)).toMatchObject({ method: 'rtn', settings: { bits: 4, groupSize: 16 } })
})
