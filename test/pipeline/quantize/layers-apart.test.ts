import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../src/checkpoint/checkpoint.js'
import { checkpointWeights } from '../../../src/checkpoint/model-weights.js'
import {
  allLinearLayers,
  cutWindows,
  dequantize,
  dequantizeModel,
  inspectModel,
  openModel,
  type QuantizationReport,
  type QuantizedLayer,
  type QuantizeModelOptions,
  quantizeModel,
  reportData,
  scoreModels,
  startEngine,
  withQuantizedLayers,
} from '../../../src/model.js'
import { cli } from '../../cli/support.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

let folder: string
const at = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gptvq-apart-'))
  await writeTinyModel(at('untied'))
  await writeTinyModel(at('tied'), {
    config: { tie_word_embeddings: true },
    tensors: (tensors) => tensors.delete('lm_head.weight'),
  })
})

afterAll(() => rm(folder, { recursive: true, force: true }))

const calibration = {
  sequences: Array.from({ length: 6 }, (_, i) =>
    Int32Array.from({ length: 32 }, (_, t) => (i * 37 + t * t * 11 + t) % 256),
  ),
}
const small = { bpv: 4, columnsPerGroup: 16, kmeansIterations: 5, refinementRounds: 1 } as const
const embedding = 'model.embed_tokens.weight'
const head = 'lm_head.weight'

interface Case {
  readonly model: 'untied' | 'tied'
  readonly options: Partial<QuantizeModelOptions>
  /** What stays in full precision of the linear layers. */
  readonly kept: RegExp
  readonly ends: readonly string[]
}

const cases: Record<string, Case> = {
  'layers left out, others with bits of their own': {
    model: 'untied',
    options: {
      ...small,
      calibration,
      skip: ['*.0.*.down_proj', '*.q_proj'],
      set: [{ match: '*.v_proj', options: { bits: 3 } }],
    },
    kept: /0\.mlp\.down_proj|q_proj/,
    ends: [],
  },
  'a whole block left out, both ends rounded': {
    model: 'untied',
    options: {
      ...small,
      calibration,
      layerOrder: 'block',
      skip: 'model.layers.0.*',
      embeddingBits: 4,
      headBits: 8,
    },
    kept: /layers\.0\./,
    ends: [embedding, head],
  },
  'the last block left out, one end rounded': {
    model: 'untied',
    options: { ...small, calibration, skip: 'model.layers.1.*', headBits: 4 },
    kept: /layers\.1\./,
    ends: [head],
  },
  'a tied embedding rounded': {
    model: 'tied',
    options: { ...small, calibration, embeddingBits: 8 },
    kept: /^nothing$/,
    ends: [embedding],
  },
  'tuned codebooks, a layer left out, one of other bits': {
    model: 'tied',
    options: {
      calibration,
      columnsPerGroup: 32,
      kmeansIterations: 5,
      refinementRounds: 1,
      tuningEpochs: 1,
      skip: '*.o_proj',
      set: [{ match: '*.up_proj', options: { bits: 1 } }],
      embeddingBits: 4,
    },
    kept: /o_proj/,
    ends: [embedding],
  },
  'bits shared out among those that are left': {
    model: 'untied',
    options: { calibration, bits: 'mixed', bpv: 2.2, kmeansIterations: 3, skip: '*.down_proj' },
    kept: /down_proj/,
    ends: [],
  },
  'a tied embedding by GPTVQ, layers rounded to nearest': {
    model: 'tied',
    options: {
      method: 'rtn',
      bits: 4,
      groupSize: 16,
      calibration,
      embeddingBits: 2,
      embeddingMethod: 'gptvq',
    },
    kept: /^nothing$/,
    ends: [embedding],
  },
  'both ends by GPTVQ': {
    model: 'untied',
    options: {
      ...small,
      calibration,
      embeddingBits: 3,
      embeddingMethod: 'gptvq',
      headBits: 2,
      headMethod: 'gptvq',
    },
    kept: /^nothing$/,
    ends: [embedding, head],
  },
  'rounding to nearest, without calibration': {
    model: 'untied',
    options: { method: 'rtn', bits: 4, groupSize: 16, skip: '*.k_proj', embeddingBits: 8, headBits: 8 },
    kept: /k_proj/,
    ends: [embedding, head],
  },
}

describe.each(Object.entries(cases))('%s', (name, { model, options, kept, ends }) => {
  const layers = new Map<string, QuantizedLayer>()
  let report: QuantizationReport
  const output = () => at(`${name}-quantized`)

  beforeAll(async () => {
    report = await quantizeModel({
      model: at(model),
      output: output(),
      ...options,
      onLayer: (name, layer) => layers.set(name, layer),
    })
  })

  it('quantizes what is not left out, each once, and reports it', async () => {
    const { config, close } = await openModel(at(model))
    await close()
    const expected = allLinearLayers(config)
      .map(({ name }) => name)
      .filter((name) => !kept.test(name))
    expect(report.layers.map(({ name }) => `${name}.weight`)).toEqual(expected)
    expect(report.ends.map(({ name }) => `${name}.weight`)).toEqual(ends)
    expect([...layers.keys()].sort()).toEqual([...expected, ...ends].sort())
    expect(report.settings).toMatchObject(
      JSON.parse(
        JSON.stringify({
          skip: options.skip,
          set: options.set,
          embeddingBits: options.embeddingBits,
          headBits: options.headBits,
          embeddingMethod: options.embeddingMethod,
          headMethod: options.headMethod,
        }),
      ),
    )
  })

  it('gives each layer the bits that it was set', () => {
    for (const { match, options: own } of options.set ?? []) {
      const changed = report.layers.filter(({ name }) => name.endsWith(match.slice(1)))
      expect(changed.length).toBe(2)
      for (const { name, bitsPerValue } of report.layers) {
        const isChanged = changed.some((layer) => layer.name === name)
        expect(bitsPerValue.index).toBe(isChanged ? own.bits : 2)
      }
    }
  })

  it('writes what reads back bit for bit, and keeps all else byte for byte', async () => {
    const [before, after] = [await openCheckpoint(at(model)), await openCheckpoint(output())]
    const weights = checkpointWeights(after)
    for (const [name, layer] of layers) {
      expect(await weights.floats(name)).toEqual(dequantize(layer).data)
      expect(after.tensors.has(name)).toBe(false)
    }
    for (const name of before.tensors.keys()) {
      if (!layers.has(name)) expect(await after.readBytes(name)).toEqual(await before.readBytes(name))
    }
    await before.close()
    await after.close()
  })

  it('counts the bytes of all tensors', async () => {
    const [before, after] = [await openCheckpoint(at(model)), await openCheckpoint(output())]
    const bytesOf = ({ tensors }: typeof before) =>
      [...tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0)
    const values = bytesOf(before) / 4
    expect(report.wholeModel).toEqual({
      before: bytesOf(before),
      after: bytesOf(after),
      bitsPerValue: (8 * bytesOf(after)) / values,
    })
    await before.close()
    await after.close()
    const { weights, bytes } = await inspectModel(output())
    expect(bytes).toBe(report.wholeModel.after)
    expect(weights.filter(({ quantized }) => quantized)).toHaveLength(layers.size)
    const data = await reportData({ model: output(), reference: at(model) })
    expect(data.layers.reduce((sum, layer) => sum + layer.bytes, data.kept.bytes)).toBe(
      report.wholeModel.after,
    )
  })

  it('scores as the model in memory does, and as the dequantized one', async () => {
    await startEngine('wasm')
    const plain = at(`${name}-plain`)
    await dequantizeModel({ model: output(), output: plain, dtype: 'F32' })
    const models = [await openModel(at(model)), await openModel(output()), await openModel(plain)]
    const [reference, written, dequantized] = models
    const { config, source } = reference
    const tokens = Int32Array.from(Buffer.from(tinyText(300, 7)))
    const { candidates } = await scoreModels({
      reference,
      candidates: [{ config, source: withQuantizedLayers(source, layers) }, written, dequantized],
      windows: cutWindows(tokens, 32, 9),
    })
    expect(candidates[0].klDivergence).toBeGreaterThan(0)
    expect(candidates[1]).toEqual(candidates[0])
    expect(candidates[2]).toEqual(candidates[0])
    for (const { close } of models) await close()
  })
})

describe('on the command line', () => {
  it('--skip, --set, --embedding-bits and --head-bits write the bytes that the library does', async () => {
    const text = at('calibration.txt')
    await writeFile(text, tinyText(400, 3))
    const shared = {
      model: at('untied'),
      calibration: text,
      sequences: 4,
      sequenceLength: 32,
      columnsPerGroup: 16,
    }
    const layers = new Map<string, QuantizedLayer>()
    await quantizeModel({
      ...shared,
      skip: ['*.0.*.down_proj', '*.q_proj'],
      set: [
        { match: '*.v_proj', options: { bits: 3, restarts: 1 } },
        { match: '*.up_proj', options: { bpv: 4 } },
      ],
      embeddingBits: 8,
      headBits: 4,
      kmeansIterations: 3,
      refinementRounds: 1,
      codebookUpdateSteps: 2,
      onLayer: (name, layer) => layers.set(name, layer),
    })
    const { code } = await cli([
      ...['quantize', at('untied'), '--out', at('by-flags'), '--calibration', text],
      ...['--sequences=4', '--sequence-length=32', '--columns-per-group=16'],
      ...['--kmeans-iterations=3', '--refinement-rounds=1', '--codebook-update-steps=2'],
      ...['--skip', '*.0.*.down_proj', '--skip', '*.q_proj'],
      ...['--set', '*.v_proj:bits=3,restarts=1', '--set', '*.up_proj:bpv=4'],
      ...['--embedding-bits', '8', '--head-bits', '4'],
    ])
    expect(code).toBe(0)
    const checkpoint = await openCheckpoint(at('by-flags'))
    const weights = checkpointWeights(checkpoint)
    for (const [name, layer] of layers) expect(await weights.floats(name)).toEqual(dequantize(layer).data)
    const stored = [...checkpoint.tensors.keys()].filter((name) => /proj\.weight$/.test(name))
    expect(stored.sort()).toEqual(
      [0, 1]
        .map((block) => `model.layers.${block}.self_attn.q_proj.weight`)
        .concat('model.layers.0.mlp.down_proj.weight')
        .sort(),
    )
    await checkpoint.close()
  })

  it('an unknown option of --set is refused, naming it', async () => {
    const { code, stderr } = await cli([
      'quantize',
      at('untied'),
      '--out',
      at('never'),
      '--set',
      '*.v_proj:bit=3',
    ])
    expect(code).toBe(2)
    expect(stderr).toContain('bit')
    expect(stderr).toContain('Did you mean')
  })
})
