import { beforeAll, expect, it } from 'vitest'
import { NumericError, TextError, UnsupportedError } from '../../../src/common/errors.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { endTensors } from '../../../src/pipeline/quantize/end-tensors.js'
import { planLayers } from '../../../src/pipeline/quantize/layers/layer-plan.js'
import { quantizePhases } from '../../../src/pipeline/quantize/phases.js'
import type { QuantizeModelOptions } from '../../../src/pipeline/quantize/quantize-model.js'
import { resolveMethod } from '../../../src/pipeline/quantize/quantize-options.js'
import { randomTensors, smallConfig } from '../../model/reference-forward.js'
import { sourceOf, type TestTensor } from '../../model/tiny-llama.js'

beforeAll(() => startEngine('wasm').then(() => undefined))

const sequence = Int32Array.of(3, 1, 4, 1, 5)

/** What stops the quantization of a damaged model, and how many layers were quantized before. */
async function stoppedBy(
  options: Omit<QuantizeModelOptions, 'model' | 'bits'>,
  fields: Record<string, unknown> = {},
  damage: (tensors: Map<string, TestTensor>) => void = () => {},
): Promise<{ error: unknown; layers: string[] }> {
  const json = { ...smallConfig, ...fields }
  const tensors = randomTensors(json, 5)
  damage(tensors)
  const config = describeDecoder(json, 'config.json')
  const settings = resolveMethod('gptvq', options)
  const layers: string[] = []
  const run = {
    model: 'nowhere',
    config,
    weights: sourceOf(tensors),
    settings,
    plan: planLayers(config, settings, options),
    ends: endTensors(config, options),
    output: undefined,
    journal: undefined,
    activations: undefined,
    elapsed: () => 0,
    onProgress: undefined,
    onLayer: (name: string) => layers.push(name),
    signal: undefined,
  }
  const error = await quantizePhases(run, options).catch((error: unknown) => error)
  return { error, layers }
}

const small = { groupSize: 256, columnsPerGroup: 16, scaleBlockSize: 'none', kmeansIterations: 1 } as const

it('tuning on a single sequence is refused before a layer is quantized', async () => {
  const calibration = { sequences: [sequence] }
  const { error, layers } = await stoppedBy({ ...small, calibration, tuningEpochs: 1, tuningSequences: 0 })
  expect(error).toBeInstanceOf(TextError)
  expect((error as Error).message).toMatch(/tuning got 1 sequence .* at least two.*tuningSequences/)
  expect(layers).toEqual([])
})

it('tuning on text of a model that cannot write any is refused before a layer is quantized', async () => {
  const calibration = { sequences: [sequence, sequence] }
  const { error, layers } = await stoppedBy(
    { ...small, calibration, tuningEpochs: 1 },
    { bos_token_id: null },
  )
  expect(error).toBeInstanceOf(UnsupportedError)
  expect((error as Error).message).toMatch(/bos_token_id is missing.*Set tuningSequences to 0/)
  expect(layers).toEqual([])
})

it.each([
  ['embedding', 'model.embed_tokens.weight', { embeddingBits: 8 }],
  ['head', 'lm_head.weight', { headBits: 4 }],
] as const)(
  'NaN in an %s that is to be rounded is found before a layer is quantized',
  async (_, name, bits) => {
    const calibration = { sequences: [sequence, sequence] }
    const { error, layers } = await stoppedBy(
      { ...small, calibration, ...bits },
      { tie_word_embeddings: false },
      // the row of a token that the text does not have
      (tensors) => tensors.get(name)!.values.fill(Number.NaN, -1),
    )
    expect(error).toBeInstanceOf(NumericError)
    expect((error as Error).message).toMatch(new RegExp(`^${name} from row 0: found NaN`))
    expect(layers).toEqual([])
  },
)

it('an option that does not fit one layer names it', () => {
  const config = describeDecoder({ ...smallConfig }, 'config.json')
  const set = [{ match: '*.1.*.v_proj', options: { bits: 3, bpv: 2.5, trellisBits: 0 } }]
  const plan = () => planLayers(config, resolveMethod('gptvq', {}), { set })
  expect(plan).toThrow(/^bpv: expected more than the 3 .*\(set for model\.layers\.1\.self_attn\.v_proj\)$/)
})
