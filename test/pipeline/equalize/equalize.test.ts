import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ScalarOptions } from '../../../src/index.js'
import type { DecoderDescription } from '../../../src/model/decoder/description.js'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { resolveActivations } from '../../../src/pipeline/activations/options.js'
import { equalizeModel } from '../../../src/pipeline/equalize/equalize-model.js'
import { crossLayerFactors, powersOfTwo, smoothFactors } from '../../../src/pipeline/equalize/factors.js'
import { seamsOf } from '../../../src/pipeline/equalize/seams.js'
import { openModel } from '../../../src/pipeline/folders/open-model.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { fixtureNames, openFixture, rangeOf, worstDifference } from '../../model/families/fixture.js'
import { writeTinyModel } from '../../support/tiny-model.js'

let folder: string
beforeAll(async () => {
  await startEngine('wasm')
  folder = await mkdtemp(join(tmpdir(), 'gptvq-equalize-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** The model with rows of very different sizes, as trained ones have. */
function uneven(source: WeightSource, config: DecoderDescription): WeightSource {
  const names = new Set(allLinearLayers(config).map((linear) => linear.name))
  const floats = async (name: string) => {
    const values = await source.floats(name)
    const cols = source.shape(name)![1]
    return names.has(name)
      ? values.map((value, i) => value * 2 ** (((Math.floor(i / cols) * 7) % 5) - 2))
      : values
  }
  return { ...source, floats }
}

const rounded: ScalarOptions = { bits: 3, granularity: 'channel', grid: 'symmetric' }

describe.each(fixtureNames)('%s', (name) => {
  it.each(['smoothquant', 'cross-layer', 'auto'] as const)(
    'computes the same when it is equalized by %s',
    async (equalization) => {
      const { source: even, config, tokens, sequences } = await openFixture(name)
      const source = uneven(even, config)
      const length = tokens.length / sequences
      const calibration = {
        sequences: Array.from({ length: sequences }, (_, i) => tokens.slice(i * length, (i + 1) * length)),
        length,
        notes: [],
      }
      const rounding = { weightsOf: () => rounded, activations: resolveActivations({ activationBits: 8 }) }
      const task = { source, config, calibration, rounding, onProgress: () => {}, signal: undefined }
      const equalized = await equalizeModel(task, { equalization, equalizationStrength: 0.5 })
      expect(equalized.seams).toBeGreaterThan(0)
      let moved = 0
      for (const tensor of equalized.changed) {
        const [before, after] = [await source.floats(tensor), await equalized.source.floats(tensor)]
        if (after.some((value, i) => value !== before[i])) moved++
      }
      expect(moved).toBeGreaterThan(equalized.changed.size / 2)
      const expected = await forwardLogits(source, config, tokens, sequences)
      const found = await forwardLogits(equalized.source, config, tokens, sequences)
      // powers of two change no digit; but for norms that store their distance from 1
      const isExact =
        equalization !== 'auto' &&
        config.blocks.every(({ norms }) => Object.values(norms).every((norm) => norm.offset === 0))
      const tolerance = isExact ? 0 : 1e-5 * rangeOf(expected)
      expect(worstDifference(found, expected)).toBeLessThanOrEqual(tolerance)
    },
  )
})

describe('seams', () => {
  it('are left out where something stands between: norms of the sum, a limit, an activation that knows sizes', async () => {
    const seamsIn = async (name: string) => seamsOf((await openFixture(name)).config.blocks[0]).length
    expect(await seamsIn('llama-mha')).toBe(4)
    // norms behind both parts only
    expect(await seamsIn('olmo2-gqa')).toBe(2)
    // one norm for both parts, and GELU
    expect(await seamsIn('gpt_neox-parallel')).toBe(3)
    const { config } = await openFixture('olmoe-clip-norm')
    expect(config.blocks[0].attention.clip).toBeDefined()
    const makers = seamsOf(config.blocks[0]).flatMap((seam) => seam.makers)
    expect(makers.some((maker) => 'linear' in maker && maker.linear.kind.includes('v_proj'))).toBe(false)
  })
})

describe('factors', () => {
  const { crossLayer } = JSON.parse(
    readFileSync(new URL('../../baselines/aimet.json', import.meta.url), 'utf8'),
  ) as { crossLayer: { first: number[]; second: number[]; scale: number[] } }
  const largest = (values: number[], of: (i: number) => number, channels: number) => {
    const sizes = new Float32Array(channels)
    for (const [i, value] of values.entries()) sizes[of(i)] = Math.max(sizes[of(i)], Math.abs(value / 4096))
    return sizes
  }

  it("across layers are AIMET's", () => {
    const rows = largest(crossLayer.first, (i) => Math.floor(i / 5), 7)
    const columns = largest(crossLayer.second, (i) => i % 7, 7)
    for (const [i, factor] of crossLayerFactors(rows, columns).entries()) {
      expect(factor).toBeCloseTo(crossLayer.scale[i], 5)
    }
  })

  it('move all of the sizes of the inputs to the weights, or all of those of the weights to the inputs', () => {
    const [inputs, weights] = [Float32Array.of(8, 2, 0), Float32Array.of(0.5, 4, 1)]
    expect([...smoothFactors(inputs, weights, 1)]).toEqual([8, 2, 1])
    expect([...smoothFactors(inputs, weights, 0)]).toEqual([2, 0.25, 1])
    expect([...smoothFactors(inputs, weights, 0.5)]).toEqual([4, Math.SQRT1_2, 1])
    expect([...powersOfTwo(Float64Array.of(3, 0.7, 1, 1000))]).toEqual([4, 0.5, 1, 1024])
  })
})

describe('an equalized folder', () => {
  it('holds its norms in their own dtype, and the layers that were rounded behind it', async () => {
    const model = (await writeTinyModel(join(folder, 'model'))).folder
    const tokens = Int32Array.from({ length: 64 }, (_, i) => (i * 31) % 250)
    const calibration = { sequences: [tokens.slice(0, 32), tokens.slice(32)] }
    const output = join(folder, 'equalized')
    const options = { model, output, method: 'rtn', bits: 8, skip: '*.{v,up}_proj' } as const
    const { settings } = await quantizeModel({ ...options, calibration, equalization: 'smoothquant' })
    expect(settings).toMatchObject({ equalization: 'smoothquant', equalizationStrength: 0.5, sequences: 128 })
    const [plain, equalized] = [await openModel(model), await openModel(output)]
    for (const name of ['model.layers.0.input_layernorm.weight', 'model.layers.1.mlp.up_proj.weight']) {
      expect(equalized.checkpoint.tensors.get(name)!.dtype).toBe('F32')
      const [before, after] = [await plain.source.floats(name), await equalized.source.floats(name)]
      expect(after).not.toEqual(before)
      for (const [i, value] of after.entries()) expect(Math.log2(value / before[i]) % 1).toBeCloseTo(0, 9)
    }
    const expected = await forwardLogits(plain.source, plain.config, tokens, 2)
    const found = await forwardLogits(equalized.source, equalized.config, tokens, 2)
    expect(worstDifference(found, expected)).toBeLessThan(0.03 * rangeOf(expected))
    await plain.close()
    await equalized.close()
  })

  it('is refused without what it needs', async () => {
    const model = (await writeTinyModel(join(folder, 'model'))).folder
    await expect(quantizeModel({ model, equalizationStrength: 0.3 })).rejects.toThrow(
      /^equalizationStrength: is of no use to equalization 'none'/,
    )
    await expect(quantizeModel({ model, equalization: 'auto' })).rejects.toThrow(
      /^equalization: 'auto' weighs scalar grids, which method 'gptvq' has not/,
    )
    await expect(
      quantizeModel({ model, scheme: 'w4a8', equalization: 'auto', equalizationStrength: 0.3 }),
    ).rejects.toThrow(/^equalizationStrength: is of no use to equalization 'auto'/)
    await expect(
      quantizeModel({ model, method: 'rtn', equalization: 'cross-layer', sequences: 4 }),
    ).rejects.toThrow(/^sequences: is of no use to method 'rtn'/)
  })
})
