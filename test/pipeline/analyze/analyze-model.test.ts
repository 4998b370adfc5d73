import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { analyzeModel, type ModelAnalysis } from '../../../src/pipeline/analyze/analyze-model.js'
import { evaluateModel } from '../../../src/pipeline/evaluate/evaluate-model.js'
import { openModel } from '../../../src/pipeline/folders/open-model.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { analysisHtml } from '../../../src/report/page/analysis-html.js'
import { writeTinyModel } from '../../support/tiny-model.js'

let folder: string
let model: string
let analysis: ModelAnalysis
const tokens = Int32Array.from({ length: 96 }, (_, i) => (i * i * 5 + i) % 250)
const text = { tokens }
const layer = 'model.layers.1.mlp.down_proj'

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-analyze-'))
  model = (await writeTinyModel(join(folder, 'model'))).folder
  analysis = await analyzeModel({ model, text, bits: 3, groupSize: 16, activationBits: 4, context: 32 })
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('analyzeModel', () => {
  it('finds the divergence of a folder where that layer alone is quantized', async () => {
    const skip = ['model.layers.0.*', '*.self_attn.*', '*.{gate,up}_proj']
    const common = { model, method: 'rtn', bits: 3, groupSize: 16, skip, force: true } as const
    const output = join(folder, 'one')
    const klOf = async () =>
      (await evaluateModel({ model: output, reference: model, text, context: 32 })).klDivergence!
    await quantizeModel({ ...common, output })
    const { sensitivity } = analysis.layers.find(({ name }) => name === layer)!
    expect(sensitivity.weights).toBeCloseTo(await klOf(), 10)
    await quantizeModel({ ...common, output, activationBits: 4 })
    expect(sensitivity.both).toBeCloseTo(await klOf(), 10)
    expect(sensitivity.activations).toBeGreaterThan(0)
    expect(sensitivity.activations).not.toBe(sensitivity.both)
  })

  it('tells what weights and inputs span', async () => {
    const { source, config, close } = await openModel(model)
    const weights = await source.floats(`${layer}.weight`)
    const found = analysis.layers.find(({ name }) => name === layer)!
    expect(found.weights.low).toBe(Math.min(...weights))
    expect(found.weights.high).toBe(Math.max(...weights))
    expect(found.weights.rms).toBeCloseTo(
      Math.sqrt(weights.reduce((sum, w) => sum + w * w, 0) / weights.length),
      6,
    )
    for (const { inputs } of analysis.layers) {
      expect(inputs!.high).toBeGreaterThanOrEqual(inputs!.rms)
      expect(inputs!.outlierRatio).toBeGreaterThanOrEqual(1)
    }
    expect(analysis.layers).toHaveLength(7 * config.blocks.length)
    expect(analysis).toMatchObject({ context: 32, windows: 3, settings: { bits: 3, activationBits: 4 } })
    const { perplexity } = await evaluateModel({ model, text, context: 32 })
    expect(analysis.perplexity).toBeCloseTo(perplexity, 8)
    await close()
  })

  it('finds static ranges on the text, and refuses what it cannot do', async () => {
    const options = { model, text, context: 32, windows: 1 }
    const { settings } = await analyzeModel({ ...options, scheme: 'w4a8', activationRange: 'sqnr' })
    expect(settings).toMatchObject({
      bits: 4,
      activationBits: 8,
      activationRange: 'sqnr',
      granularity: 'channel',
    })
    await expect(analyzeModel({ ...options, scaleSearch: 'sequential-mse' })).rejects.toThrow(
      /^scaleSearch: an analysis rounds layers one by one/,
    )
    const output = join(folder, 'quantized')
    await quantizeModel({ model, output, method: 'rtn' })
    await expect(analyzeModel({ ...options, model: output })).rejects.toThrow(/is quantized already/)
  })
})

describe('the page of an analysis', () => {
  it('has six pictures in two widths and a row for each layer, names made safe', () => {
    const layers = analysis.layers.map((own, i) => (i === 0 ? { ...own, inputs: null } : own))
    const page = analysisHtml({ ...analysis, model: '<b>', layers })
    expect(page.match(/<svg /g)).toHaveLength(12)
    expect(page.match(/<tr><td class="text"/g)).toHaveLength(analysis.layers.length)
    expect(page).toContain('&lt;b&gt;')
    expect(page).not.toContain('<b>')
    expect(() => analysisHtml({ ...analysis, layers: [] })).toThrow(/^layers: is empty/)
  })
})
