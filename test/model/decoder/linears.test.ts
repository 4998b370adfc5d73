import { describe, expect, it } from 'vitest'
import { CheckpointError, UnsupportedError } from '../../../src/errors.js'
import { linearInputGroups, linearKinds, linearLayers } from '../../../src/model/decoder/linears.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { ropeFrequencies } from '../../../src/model/rope.js'

const minimal = {
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 3,
  num_attention_heads: 8,
  vocab_size: 1000,
}
const parse = (fields: Record<string, unknown> = {}) =>
  describeDecoder({ ...minimal, ...fields }, 'a/config.json')

describe('describeDecoder', () => {
  it('fills in what Hugging Face leaves out', () => {
    expect(parse()).toEqual({
      modelType: 'llama',
      hiddenSize: 64,
      intermediateSize: 160,
      layers: 3,
      heads: 8,
      kvHeads: 8,
      headDim: 8,
      vocabSize: 1000,
      maxPositions: 2048,
      rmsNormEps: 1e-6,
      ropeTheta: 10000,
      ropeScaling: { type: 'default' },
      tieWordEmbeddings: false,
      attentionBias: false,
      mlpBias: false,
      slidingWindow: undefined,
      bosTokenId: undefined,
      eosTokenIds: [],
    })
  })

  it('reads token ids given alone, in a list and as null', () => {
    expect(parse({ bos_token_id: 1, eos_token_id: [2, 3] })).toMatchObject({
      bosTokenId: 1,
      eosTokenIds: [2, 3],
    })
    expect(parse({ bos_token_id: null, eos_token_id: 2 })).toMatchObject({
      bosTokenId: undefined,
      eosTokenIds: [2],
    })
  })

  it('reads rotary settings from rope_parameters, rope_scaling and the top level', () => {
    const inside = parse({ rope_parameters: { rope_type: 'default', rope_theta: 500000 } })
    expect(inside).toMatchObject({ ropeTheta: 500000, ropeScaling: { type: 'default' } })
    const scaled = parse({ rope_theta: 700, rope_scaling: { type: 'linear', factor: 2 } })
    expect(scaled).toMatchObject({ ropeTheta: 700, ropeScaling: { type: 'linear', factor: 2 } })
    expect(parse({ rope_scaling: null, rope_theta: 5 }).ropeTheta).toBe(5)
  })

  it('gives mistral its own defaults: a window of 4096 unless null, 8 key-value heads, no biases', () => {
    const mistral = { model_type: 'mistral', num_attention_heads: 16 }
    expect(parse(mistral)).toMatchObject({ slidingWindow: 4096, kvHeads: 8 })
    expect(parse({ ...mistral, sliding_window: null }).slidingWindow).toBeUndefined()
    expect(parse({ ...mistral, attention_bias: true }).attentionBias).toBe(false)
    expect(parse({ sliding_window: 100 }).slidingWindow).toBeUndefined()
  })

  it.each([
    [{ model_type: 'qwen2' }, '"qwen2"'],
    [{ model_type: undefined }, 'no model_type'],
    [{ architectures: ['LlamaForSequenceClassification'] }, 'LlamaForSequenceClassification'],
    [{ hidden_act: 'gelu' }, '"gelu"'],
    [{ rope_scaling: { rope_type: 'yarn', factor: 4 } }, '"yarn"'],
    [{ rope_scaling: { type: 'dynamic', factor: 4 } }, '"dynamic"'],
    [{ rope_parameters: { partial_rotary_factor: 0.5 } }, 'partial_rotary_factor 0.5'],
  ])('refuses what the forward pass does not have: %j', (fields, named) => {
    expect(() => parse(fields)).toThrow(UnsupportedError)
    expect(() => parse(fields)).toThrow(named)
    expect(() => parse(fields)).toThrow('a/config.json')
  })

  it('lists the architectures it knows when it refuses another', () => {
    expect(() => parse({ model_type: 'gpt2' })).toThrow('supported: llama, mistral')
  })

  it.each([
    [{ hidden_size: undefined }, 'hidden_size is missing'],
    [{ vocab_size: 0 }, 'vocab_size is 0'],
    [{ num_hidden_layers: 1.5 }, 'num_hidden_layers is 1.5'],
    [{ intermediate_size: '160' }, 'intermediate_size is "160"'],
    [{ num_key_value_heads: 3 }, 'num_key_value_heads is 3; expected a divisor of num_attention_heads (8)'],
    [{ num_attention_heads: 7 }, 'head_dim is 9.1'],
    [{ head_dim: 5 }, 'head_dim is 5; expected an even number'],
    [{ rms_norm_eps: -1 }, 'rms_norm_eps is -1'],
    [{ rope_theta: 'big' }, 'rope_theta is "big"'],
    [{ tie_word_embeddings: 1 }, 'tie_word_embeddings is 1'],
    [{ bos_token_id: -1 }, 'bos_token_id is -1'],
    [{ rope_scaling: 'linear' }, 'rope_scaling is "linear"'],
    [{ rope_scaling: { type: 'linear' } }, 'factor of the linear rotary scaling is missing'],
    [
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 1 } },
      'high_freq_factor is 1',
    ],
  ])('names the impossible field: %j', (fields, message) => {
    expect(() => parse(fields)).toThrow(CheckpointError)
    expect(() => parse(fields)).toThrow(message)
  })
})

describe('linearLayers', () => {
  it('has every kind once, with its shape and tensor name', () => {
    const layers = linearLayers(parse({ num_key_value_heads: 2, head_dim: 16, mlp_bias: true }), 2)
    expect(layers.map(({ kind }) => kind)).toEqual([...linearKinds])
    expect(layers.map(({ rows, cols }) => [rows, cols])).toEqual([
      [128, 64],
      [32, 64],
      [32, 64],
      [64, 128],
      [160, 64],
      [160, 64],
      [64, 160],
    ])
    expect(layers[3].name).toBe('model.layers.2.self_attn.o_proj.weight')
    expect(layers.map(({ biasName }) => biasName !== undefined)).toEqual([
      false,
      false,
      false,
      false,
      true,
      true,
      true,
    ])
  })

  it('puts every kind into one group of a shared input', () => {
    expect(linearInputGroups.flat()).toEqual([...linearKinds])
  })
})

describe('ropeFrequencies', () => {
  it('keeps fast pairs and stretches slow ones under llama3 scaling', () => {
    const llama3 = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    }
    const fields = { head_dim: 128, rope_theta: 500000 }
    const plain = ropeFrequencies(parse(fields))
    const scaled = ropeFrequencies(parse({ ...fields, rope_scaling: llama3 }))
    expect(scaled[0]).toBe(plain[0])
    expect(scaled[63]).toBeCloseTo(plain[63] / 8, 15)
    const ratios = Array.from(scaled, (frequency, pair) => plain[pair] / frequency)
    expect(ratios.every((ratio, pair) => pair === 0 || ratio >= ratios[pair - 1] - 1e-12)).toBe(true)
    expect(ratios.some((ratio) => ratio > 1.01 && ratio < 7.9)).toBe(true)
  })
})
