import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OptionError } from '../../../src/common/errors.js'
import { estimateModel, type QuantizeModelOptions, quantizeModel } from '../../../src/model.js'
import { estimateLongRun } from '../../../src/pipeline/estimate/estimate-model.js'
import { cli } from '../../cli/support.js'
import { fixtureFolder } from '../../model/families/fixture.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'
import { rejectionOf } from '../../support/tolerance.js'

let folder: string
let model: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-estimate-'))
  model = join(folder, 'model')
  await writeTinyModel(model)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const base = { calibration: { text: tinyText(1000) }, sequenceLength: 40, refinementRounds: 1 }

const kinds: Readonly<Record<string, Partial<QuantizeModelOptions>>> = {
  'the defaults': { columnsPerGroup: 16 },
  'plain codebooks, layers apart, embedding rounded': {
    trellisBits: 0,
    bpv: 4,
    columnsPerGroup: 16,
    skip: '*.0.*',
    set: [{ match: '*.v_proj', options: { bits: 1 } }],
    embeddingBits: 4,
  },
  'layer order block': { layerOrder: 'block', columnsPerGroup: 16, columnOrder: 'activation' },
  'embedding and head by GPTVQ': {
    columnsPerGroup: 16,
    embeddingBits: 4,
    embeddingMethod: 'gptvq',
    headBits: 3,
    headMethod: 'gptvq',
  },
  GPTQ: { method: 'gptq', groupSize: 16, refinementRounds: undefined },
  RTN: {
    method: 'rtn',
    groupSize: 16,
    calibration: undefined,
    sequenceLength: undefined,
    refinementRounds: undefined,
  },
}

describe('an estimate', () => {
  it.each(Object.entries(kinds))(
    'tells bits exactly and bytes nearly, and writes nothing: %s',
    async (_, options) => {
      const before = await readdir(folder)
      const estimate = await estimateModel({ ...base, model, ...options })
      expect(await readdir(folder)).toEqual(before)
      const output = join(folder, 'out')
      const report = await quantizeModel({ ...base, model, output, ...options })
      await rm(output, { recursive: true })
      expect(estimate.layerBytes).toBe(report.layerBytes.after)
      expect(estimate.bitsPerValue).toBe(report.bitsPerValue)
      expect(estimate.wholeModelBits).toBeCloseTo(report.wholeModel.bitsPerValue, 10)
      // records and headers, which are text, weigh much in a model so small
      expect(Math.abs(estimate.outputBytes - report.outputBytes!)).toBeLessThan(
        1000 * report.layers.length + 4000,
      )
      const { calibration, quantization, total } = estimate.seconds
      expect(quantization).toBeGreaterThan(0)
      if (options.method === 'rtn') expect(calibration).toBeLessThan(quantization + 1)
      else expect(calibration).toBeGreaterThan(0)
      expect(total).toBeCloseTo(calibration + quantization, 10)
      expect(estimate.tokens).toBe(report.calibration ? report.calibration.sequences * 40 : 0)
      expect(estimate.diskBytes).toBeGreaterThan(2 * estimate.outputBytes - 1)
    },
  )

  it('of mixed bits counts the budget and the time of measuring, of own text that of writing it', async () => {
    const options = {
      model,
      bits: 'mixed',
      bpv: 3,
      sequences: 4,
      sequenceLength: 24,
      refinementRounds: 1,
    } as const
    const estimate = await estimateModel(options)
    expect(estimate.bitsPerValue).toBeCloseTo(3, 2)
    expect(estimate.seconds.sensitivity).toBeGreaterThan(0)
    expect(estimate.tokens).toBe(96)
  })

  it('of a mixture of experts measures one expert for all', async () => {
    const sequences = [Int32Array.from({ length: 20 }, (_, i) => i)]
    const options = {
      model: join(fixtureFolder, 'mixtral-full'),
      calibration: { sequences },
      trellisBits: 0,
      bpv: 8,
    }
    const estimate = await estimateModel(options)
    expect(estimate.seconds.total).toBeGreaterThan(0)
    const report = await quantizeModel(options)
    expect(estimate.layerBytes).toBe(report.layerBytes.after)
  })

  it.each([
    [{ columnsPerGroup: 16, tuningEpochs: 1, trellisBits: 0, bpv: 4 }, 'tuning'],
    [{ method: 'rtn', groupSize: 16, equalization: 'smoothquant' }, 'equalizing'],
    [
      { method: 'rtn', groupSize: 16, activationBits: 8, activationRange: 'minmax' },
      'finding the ranges of activations',
    ],
  ] as const)('says what is not in its time: %o', async (options, part) => {
    const { refinementRounds: _, ...text } = base
    const { notes } = await estimateModel({ ...text, model, ...options })
    expect(notes).toEqual([`${part} is not in the time`])
  })

  it('grows with the tokens: activations in proportion', async () => {
    const of = async (sequences: number) => estimateModel({ ...base, model, sequences, columnsPerGroup: 16 })
    const [few, many] = [await of(5), await of(20)]
    expect(many.tokens).toBe(4 * few.tokens)
    expect(many.memory.activations).toBe(4 * few.memory.activations)
    expect(many.memory.layer).toBe(few.memory.layer)
  })

  it('of a run with a bound on its memory has fewer activations and more disk', async () => {
    const sequences = Array.from({ length: 2000 }, () => Int32Array.from({ length: 40 }, (_, i) => i))
    const options = { model, calibration: { sequences }, columnsPerGroup: 16, refinementRounds: 0 }
    const free = await estimateModel(options)
    const memory = free.memoryBytes - free.memory.activations / 2
    const bounded = await estimateModel({ ...options, memory })
    expect(bounded.memoryBytes).toBeLessThan(memory)
    expect(free.memoryBytes).toBeGreaterThan(memory)
    const spilled = free.memory.activations - bounded.memory.activations
    expect(bounded.diskBytes - free.diskBytes).toBe(spilled)
    expect(await rejectionOf(() => estimateModel({ ...options, memory: 1e6 }))).toBeInstanceOf(OptionError)
  })

  it('refuses what quantizeModel refuses, and is left out of a short run', async () => {
    expect(await rejectionOf(() => estimateModel({ model, bits: 77 }))).toBeInstanceOf(OptionError)
    expect(await estimateLongRun({ ...base, model })).toBeUndefined()
  })

  it('is a command', async () => {
    const flags = ['--method', 'rtn', '--bits', '4']
    const { code, stdout } = await cli(['estimate', model, ...flags])
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /^time .*\nmemory .*\ndisk .*\noutput .*\nbits per value {2}4\.\d+, whole model .*\ncalibration {5}none\nmeasured /,
    )
    const json = await cli(['estimate', model, ...flags, '--json'])
    expect(JSON.parse(json.stdout)).toMatchObject({ tokens: 0, seconds: { calibration: 0 }, notes: [] })
  })
})
