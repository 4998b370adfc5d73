import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { allLinearLayers, openModel, startEngine } from '../../../src/model.js'
import { calibrationStream, copyStream } from '../../../src/pipeline/calibrate/calibration-stream.js'
import { quantizeCalibratedBlock } from '../../../src/pipeline/quantize/calibrated-block.js'
import { planLayers } from '../../../src/pipeline/quantize/layers/layer-plan.js'
import { resolveMethod } from '../../../src/pipeline/quantize/quantize-options.js'
import { gaussianMatrix } from '../../support/random-matrix.js'
import { writeTinyModel } from '../../support/tiny-model.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-read-once-'))
  await writeTinyModel(folder)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

it.each(['sequential', 'block'] as const)(
  'quantizing a block reads each of its weights once, layer order %s',
  async (layerOrder) => {
    const { source, config, close } = await openModel(folder)
    await startEngine('wasm')
    const reads = new Map<string, number>()
    const weights: WeightSource = {
      ...source,
      floats(name) {
        reads.set(name, (reads.get(name) ?? 0) + 1)
        return source.floats(name)
      },
    }
    const options = { bpv: 4, bits: 2, columnsPerGroup: 16, layerOrder }
    const settings = resolveMethod('gptvq', options)
    const plan = planLayers(config, settings, options)
    const present = calibrationStream(config, gaussianMatrix(64, config.hiddenSize, 1).data, 32)
    const work = {
      weights,
      config,
      index: 0,
      plan,
      order: settings.order,
      deliver: async () => {},
      onProgress: () => {},
      signal: undefined,
    }
    const seconds = { calibration: 0, quantization: 0 }
    await quantizeCalibratedBlock(work, { present, full: copyStream(present) }, seconds)
    const ofBlock = allLinearLayers(config).filter(({ name }) => name.startsWith('model.layers.0.'))
    expect(ofBlock.map(({ name }) => reads.get(name))).toEqual(ofBlock.map(() => 1))
    await close()
  },
)
