import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../src/checkpoint/checkpoint.js'
import { checkpointWeights } from '../../../src/checkpoint/model-weights.js'
import { matrix } from '../../../src/common/matrix.js'
import { dequantizeScalar, quantizeRtn, type RtnOptions, type ScalarLayer } from '../../../src/index.js'
import {
  allLinearLayers,
  estimateModel,
  openModel,
  type QuantizeModelOptions,
  quantizeModel,
} from '../../../src/model.js'
import { cli } from '../../cli/support.js'
import { writeTinyModel } from '../../support/tiny-model.js'

let folder: string
let model: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-grids-'))
  model = join(folder, 'model')
  await writeTinyModel(model)
})

afterAll(() => rm(folder, { recursive: true, force: true }))

const calibration = {
  sequences: Array.from({ length: 4 }, (_, i) =>
    Int32Array.from({ length: 32 }, (_, t) => (i * 29 + t * t * 13 + t) % 256),
  ),
}

async function quantized(
  options: Partial<QuantizeModelOptions>,
): Promise<{ layers: Map<string, ScalarLayer>; bitsPerValue: number }> {
  const layers = new Map<string, ScalarLayer>()
  const onLayer: QuantizeModelOptions['onLayer'] = (name, layer) => layers.set(name, layer as ScalarLayer)
  const { bitsPerValue } = await quantizeModel({ model, onLayer, ...options })
  return { layers, bitsPerValue }
}

describe('layers with a grid of their own', () => {
  const shared: RtnOptions = { bits: 4, granularity: 'channel', scaleSearch: 'mse', scaleCandidates: 7 }
  const set: QuantizeModelOptions['set'] = [
    { match: '*.v_proj', options: { grid: 'symmetric' } },
    { match: '*.o_proj', options: { granularity: 'group', groupSize: 8, bits: 3 } },
    { match: '*.up_proj', options: { scaleSearch: 'minmax' } },
    { match: '*.down_proj', options: { granularity: 'tensor', scaleCandidates: 3, grid: 'symmetric' } },
  ]
  const expected: Readonly<Record<string, RtnOptions>> = {
    v_proj: { ...shared, grid: 'symmetric' },
    o_proj: { ...shared, granularity: 'group', groupSize: 8, bits: 3 },
    up_proj: { bits: 4, granularity: 'channel', scaleSearch: 'minmax' },
    down_proj: { ...shared, granularity: 'tensor', scaleCandidates: 3, grid: 'symmetric' },
  }

  it('are rounded as each would be alone, and counted so beforehand', async () => {
    const { layers, bitsPerValue } = await quantized({ method: 'rtn', ...shared, set })
    const { config, source, close } = await openModel(model)
    for (const { name, rows, cols } of allLinearLayers(config)) {
      const kind = name.split('.').at(-2)!
      const weight = matrix(rows, cols, await source.floats(name))
      expect(layers.get(name), name).toEqual(quantizeRtn(weight, expected[kind] ?? shared))
    }
    await close()
    const estimate = await estimateModel({ model, method: 'rtn', ...shared, set })
    expect(estimate.bitsPerValue).toBe(bitsPerValue)
  })

  it('come out of the command line as out of the library', async () => {
    const output = join(folder, 'by-flags')
    const { code, stderr } = await cli([
      ...['quantize', model, '--out', output, '--method', 'rtn', '--bits', '4'],
      ...['--granularity', 'channel', '--scale-search', 'mse', '--scale-candidates', '7'],
      ...['--set', '*.v_proj:grid=symmetric', '--set', '*.o_proj:granularity=group,group-size=8,bits=3'],
      ...['--set', '*.up_proj:scale-search=minmax'],
      ...['--set', '*.down_proj:granularity=tensor,scale-candidates=3,grid=symmetric'],
    ])
    expect(code, stderr).toBe(0)
    const { layers } = await quantized({ method: 'rtn', ...shared, set })
    const checkpoint = await openCheckpoint(output)
    const weights = checkpointWeights(checkpoint)
    for (const [name, layer] of layers) {
      expect(await weights.floats(name), name).toEqual(dequantizeScalar(layer).data)
    }
    await checkpoint.close()
  })

  it('leave the others of their block as they are in GPTQ, whose layers of a block see the same', async () => {
    const options = { method: 'gptq', bits: 3, calibration } as const
    const { layers: plain } = await quantized(options)
    const grid = { granularity: 'channel', grid: 'symmetric', scaleSearch: 'sequential-mse' } as const
    const { layers } = await quantized({ ...options, set: [{ match: '*.k_proj', options: grid }] })
    for (const [name, layer] of layers) {
      if (!name.includes('layers.0.')) continue
      if (name.includes('k_proj')) {
        expect(layer.groupSize).toBe(layer.cols)
        expect(layer.zeros.every((zero) => zero === 4)).toBe(true)
      } else expect(layer, name).toEqual(plain.get(name))
    }
  })

  it('can do without the search by outputs that the others have', async () => {
    const searched = { method: 'rtn', bits: 3, scaleSearch: 'sequential-mse', calibration } as const
    const { layers } = await quantized({
      ...searched,
      sequences: 4,
      set: [{ match: '*', options: { scaleSearch: 'mse' } }],
    })
    const { layers: plain } = await quantized({ method: 'rtn', bits: 3, scaleSearch: 'mse' })
    expect(layers).toEqual(plain)
  })

  it.each<[string, Partial<QuantizeModelOptions>, string]>([
    [
      'a search by outputs in a run that looks at no text',
      { method: 'rtn', set: [{ match: '*.v_proj', options: { scaleSearch: 'sequential-mse' } }] },
      "scaleSearch: 'sequential-mse' for some layers takes a text",
    ],
    [
      'a group size where rows share a scale',
      { method: 'rtn', granularity: 'channel', set: [{ match: '*.v_proj', options: { groupSize: 8 } }] },
      "groupSize: is of no use to granularity 'channel'; leave it out or choose granularity 'group' (set for model.layers.0.self_attn.v_proj)",
    ],
    [
      'a symmetric grid of one bit',
      { method: 'rtn', grid: 'symmetric', set: [{ match: '*.v_proj', options: { bits: 1 } }] },
      'grid: a symmetric grid of 1 bit has no positive code; use 2 bits or more (set for model.layers.0',
    ],
    [
      'a grid of codebooks',
      { set: [{ match: '*.v_proj', options: { grid: 'symmetric' } }] },
      "grid: is of no use to method 'gptvq'; leave it out or choose method 'gptq' or 'rtn' (set for",
    ],
    [
      'a grid that there is not',
      { method: 'rtn', set: [{ match: '*.v_proj', options: { grid: 'even' as 'symmetric' } }] },
      'grid: expected one of asymmetric, symmetric, got even (set for model.layers.0',
    ],
  ])('refuse %s, naming the layer', async (_, options, message) => {
    await expect(quantizeModel({ model, ...options })).rejects.toThrow(message)
  })
})
