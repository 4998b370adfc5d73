import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Matrix } from '../../../src/common/matrix.js'
import { disposeBlock, openBlock } from '../../../src/model/decoder/block.js'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import { blockStages } from '../../../src/model/decoder/stages.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { calibrationStream, passStage } from '../../../src/pipeline/calibrate/calibration-stream.js'
import { collectStatistics } from '../../../src/pipeline/calibrate/statistics/input-statistics.js'
import { evaluateModel } from '../../../src/pipeline/evaluate/evaluate-model.js'
import { dequantizeModel } from '../../../src/pipeline/folders/dequantize-model.js'
import { inspectModel } from '../../../src/pipeline/folders/inspect-model.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { reportData } from '../../../src/pipeline/reports/report-data.js'
import { type Fixture, fixtureNames, openFixture } from '../../model/families/fixture.js'

/** Few weights share a codebook, since these layers are tiny. */
const small = {
  bits: 2,
  groupSize: 512,
  columnsPerGroup: 32,
  scaleBlockSize: 'none',
  kmeansIterations: 5,
  refinementRounds: 1,
} as const

let folder: string

beforeAll(async () => {
  await startEngine('wasm')
  folder = await mkdtemp(join(tmpdir(), 'gptvq-families-'))
})

afterAll(() => rm(folder, { recursive: true, force: true }))

/** Two sequences, within the context that the model was made for. */
function sequencesOf({ tokens, config }: Fixture): Int32Array[] {
  const length = Math.min(20, config.maxPositions)
  return [tokens.slice(0, length), tokens.slice(20, 20 + length)]
}

describe.each(fixtureNames)('%s', (name) => {
  it('is quantized, scored, listed, reported and dequantized', async () => {
    const fixture = await openFixture(name)
    const output = join(folder, name)
    const calibration = { sequences: sequencesOf(fixture) }
    const report = await quantizeModel({ model: fixture.folder, output, calibration, ...small })
    const names = allLinearLayers(fixture.config).map((linear) => linear.name)
    expect(report.layers.map((layer) => `${layer.name}.weight`).sort()).toEqual([...names].sort())

    const text = { tokens: fixture.tokens }
    const common = { reference: fixture.folder, text, context: Math.min(20, fixture.config.maxPositions) }
    const scores = await evaluateModel({ model: output, ...common })
    expect(scores.klDivergence).toBeGreaterThan(0)
    expect(Number.isFinite(scores.perplexity)).toBe(true)

    const listed = await inspectModel(output)
    expect(listed.weights.filter(({ quantized }) => quantized)).toHaveLength(names.length)
    expect(listed.quantizedBitsPerValue).toBeCloseTo(report.bitsPerValue, 10)
    expect((await reportData({ model: output, reference: fixture.folder })).layers).toHaveLength(names.length)

    const plain = join(folder, `${name}-plain`)
    await dequantizeModel({ model: output, output: plain, dtype: 'F32' })
    expect((await evaluateModel({ model: plain, ...common })).klDivergence).toBe(scores.klDivergence)
  })

  it('is calibrated on X^T X of what transformers saw its layers read', async () => {
    const { config, source, hidden, inputs } = await openFixture(name)
    const seen: string[] = []
    for (const [index, description] of config.blocks.entries()) {
      const block = await openBlock(source, description)
      const stream = calibrationStream(config, hidden[index].slice(), 20)
      for (const stage of blockStages(description)) {
        const modules = stage.linears.map((linear) => linear.module).filter((own) => inputs.has(own))
        const statistics =
          modules.length === 0 ? undefined : await collectStatistics(stage, { block, stream })
        for (const { kind, module } of stage.linears.filter((own) => modules.includes(own.module))) {
          const { hessian, tokens } = statistics!.get(kind)!
          const { shape, values } = inputs.get(module)!
          expect(tokens).toBe(shape[0])
          expectSame(hessian, gram(values, shape[0], shape[1]), module)
          seen.push(module)
        }
        await passStage(block, stage, stream)
      }
      disposeBlock(block)
    }
    // of linear layers with the same input the oracle kept one
    expect(new Set(seen)).toEqual(new Set(inputs.keys()))
  })
})

/** `(2 / tokens) X^T X` in float64. */
function gram(x: Float32Array, tokens: number, cols: number): Float64Array {
  const sums = new Float64Array(cols * cols)
  for (let token = 0; token < tokens; token++) {
    for (let i = 0; i < cols; i++) {
      for (let j = 0; j < cols; j++) sums[i * cols + j] += x[token * cols + i] * x[token * cols + j]
    }
  }
  return sums.map((sum) => (2 * sum) / tokens)
}

function expectSame({ data }: Matrix, expected: Float64Array, module: string): void {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - data[i])), 0)
  expect(worst / largest, module).toBeLessThan(1e-4)
}

/** The first fixture of each family. */
const families = fixtureNames.filter(
  (name, i) => fixtureNames.findIndex((other) => other.split('-')[0] === name.split('-')[0]) === i,
)

describe.each(families)('%s', (name) => {
  it('is quantized with mixed bits, and its codebooks tuned', async () => {
    const fixture = await openFixture(name)
    const calibration = { sequences: sequencesOf(fixture) }
    const { bits: _, groupSize: __, ...shared } = small
    const mixed = await quantizeModel({
      model: fixture.folder,
      calibration,
      ...shared,
      bits: 'mixed',
      bpv: 3.5,
      vectorDim: 1,
    })
    expect(mixed.bitsPerValue).toBeLessThanOrEqual(3.5)
    expect(mixed.mixed?.layers).toHaveLength(allLinearLayers(fixture.config).length)
    const tuning = { tuningEpochs: 1, tuningSequences: 0 }
    const tuned = await quantizeModel({ model: fixture.folder, calibration, ...small, ...tuning })
    expect(tuned.tuning?.epochs[0].heldOut).toBeGreaterThan(0)
    expect(tuned.tuning!.epochs[tuned.tuning!.kept].heldOut).toBeLessThanOrEqual(
      tuned.tuning!.epochs[0].heldOut,
    )
  })
})
