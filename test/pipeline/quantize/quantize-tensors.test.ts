import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { quantizeKmeans } from '../../../src/baselines/kmeans.js'
import { openCheckpoint } from '../../../src/checkpoint/checkpoint.js'
import { matrix } from '../../../src/common/matrix.js'
import { dequantizeLayer } from '../../../src/packing/vq-layer.js'
import { dequantizeModel } from '../../../src/pipeline/folders/dequantize-model.js'
import { inspectModel } from '../../../src/pipeline/folders/inspect-model.js'
import { openModel } from '../../../src/pipeline/folders/open-model.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { quantizeTensors } from '../../../src/pipeline/quantize/quantize-tensors.js'
import { writeTinyModel } from '../../support/tiny-model.js'

let folder: string
/** Of a family that there is not. */
let unknown: string
let known: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-tensors-'))
  known = (await writeTinyModel(join(folder, 'known'))).folder
  unknown = (await writeTinyModel(join(folder, 'unknown'), { config: { model_type: 'perceiver' } })).folder
})
afterAll(() => rm(folder, { recursive: true, force: true }))

it('rounds the linear layers of a model that cannot be run, as those of one that can', async () => {
  await expect(quantizeModel({ model: unknown, method: 'rtn', bits: 4 })).rejects.toThrow(/perceiver/)
  const output = join(folder, 'rtn')
  const { layers, bitsPerValue } = await quantizeTensors({ model: unknown, output, groupSize: 16 })
  expect(layers).toHaveLength(14)
  expect(bitsPerValue).toBe(4 + 20 / 16)
  await quantizeModel({ model: known, output: join(folder, 'same'), method: 'rtn', bits: 4, groupSize: 16 })
  const [found, expected] = [await openCheckpoint(output), await openCheckpoint(join(folder, 'same'))]
  expect([...found.tensors.keys()].sort()).toEqual([...expected.tensors.keys()].sort())
  for (const name of found.tensors.keys()) {
    expect(await found.readBytes(name)).toEqual(await expected.readBytes(name))
  }
  await found.close()
  await expected.close()
  expect((await inspectModel(output)).weights.filter(({ quantized }) => quantized)).toHaveLength(14)
})

it('clusters them by plain k-means, and is undone', async () => {
  const output = join(folder, 'kmeans')
  const options = { bits: 2, groupSize: 512, columnsPerGroup: 32, seed: 3 }
  const name = 'model.layers.0.mlp.up_proj.weight'
  const report = await quantizeTensors({
    model: unknown,
    output,
    method: 'kmeans',
    tensors: '*.mlp.up_proj',
    ...options,
  })
  expect(report.layers.map((layer) => layer.name)).toEqual([
    'model.layers.0.mlp.up_proj',
    'model.layers.1.mlp.up_proj',
  ])
  await dequantizeModel({ model: output, output: join(folder, 'plain'), dtype: 'F32' })
  const [plain, original] = [await openCheckpoint(join(folder, 'plain')), await openModel(known)]
  const layer = quantizeKmeans(matrix(48, 32, await original.source.floats(name)), options)
  expect(await plain.readFloats(name)).toEqual(dequantizeLayer(layer).data)
  await plain.close()
  await original.close()
  const { quantization_config: record } = JSON.parse(await readFile(join(output, 'config.json'), 'utf8'))
  expect(record).toMatchObject({ method: 'kmeans', settings: { bits: 2, seed: 3 } })
})

it('says what it cannot do', async () => {
  const common = { model: unknown, output: join(folder, 'never') }
  const refused: [Partial<Parameters<typeof quantizeTensors>[0]>, RegExp][] = [
    [
      { tensors: '*.w_proj' },
      /^tensors: the pattern '\*\.w_proj' matches none of the 16 weights .* such as /,
    ],
    [{ vectorDim: 2 }, /^vectorDim: is of no use to method 'rtn'/],
    [{ method: 'kmeans', grid: 'symmetric' }, /^grid: is of no use to method 'kmeans'/],
    [{ scaleSearch: 'sequential-mse' }, /^scaleSearch: needs a forward pass/],
    [{ bits: 9 }, /^bits: /],
  ]
  for (const [options, message] of refused) {
    await expect(quantizeTensors({ ...common, ...options })).rejects.toThrow(message)
  }
  await expect(quantizeTensors({ ...common, model: join(folder, 'rtn') })).rejects.toThrow(
    /quantized already/,
  )
  await expect(quantizeTensors({ ...common, signal: AbortSignal.abort() })).rejects.toThrow(/abort|stopped/i)
})
