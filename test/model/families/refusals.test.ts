import { readdirSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { CheckpointError, UnsupportedError } from '../../../src/common/errors.js'
import { describeDecoder, supportedFamilies } from '../../../src/model/families/index.js'

const sizes = {
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  num_key_value_heads: 8,
  vocab_size: 1000,
}
const describeModel = (family: string, fields: Record<string, unknown> = {}, notes: string[] = []) =>
  describeDecoder({ model_type: family, ...sizes, ...fields }, 'a/config.json', notes)

const src = fileURLToPath(new URL('../../../src/', import.meta.url))

describe('the registry', () => {
  it('is the only file that names a family', () => {
    const sources = readdirSync(src, { recursive: true, encoding: 'utf8' })
      .map((name) => name.replaceAll('\\', '/'))
      .filter((name) => name.endsWith('.ts'))
    const importers = new Map<string, string[]>()
    for (const name of sources) {
      for (const [, path] of readFileSync(src + name, 'utf8').matchAll(/from\s*'(\.[^']+)\.js'/g)) {
        const imported = `${posix.join(posix.dirname(name), path)}.ts`
        importers.set(imported, [...(importers.get(imported) ?? []), name])
      }
    }
    const families = sources.filter(
      (name) => name.startsWith('model/families/') && /: Family = \{/.test(readFileSync(src + name, 'utf8')),
    )
    expect(families.length).toBe(supportedFamilies.length)
    for (const name of families) expect(importers.get(name)).toEqual(['model/families/index.ts'])
  })

  it('has every family once', () => {
    expect(new Set(supportedFamilies).size).toBe(supportedFamilies.length)
  })
})

describe('models that are not supported', () => {
  it.each([
    [{ model_type: 'gpt2' }, 'model_type "gpt2"'],
    [{ model_type: undefined }, 'no model_type'],
    [{ model_type: 'toString' }, 'model_type "toString"'],
  ])('%j is refused with the list of those that are', (fields, named) => {
    const refused = () => describeDecoder({ ...sizes, ...fields }, 'a/config.json')
    expect(refused).toThrow(UnsupportedError)
    expect(refused).toThrow(`a/config.json: ${named} is not an architecture this library can run`)
    expect(refused).toThrow(`supported: ${supportedFamilies.join(', ')}`)
  })

  it('a model of text and pictures is refused as such', () => {
    const config = { model_type: 'gemma3', text_config: { model_type: 'gemma3_text' }, vision_config: {} }
    expect(() => describeDecoder(config, 'x')).toThrow('supported, models of text only: llama')
    expect(() => describeDecoder(config, 'x')).toThrow('Its text part is a gemma3_text: save that alone')
    const other = { model_type: 'florence2', text_config: { model_type: 'bart' } }
    expect(() => describeDecoder(other, 'x')).toThrow(/olmoe$/)
    expect(() => describeModel('llama', { vision_config: { hidden_size: 3 } })).toThrow('vision_config')
  })

  it('another head than that of a language model is refused', () => {
    const refused = () => describeModel('qwen2', { architectures: ['Qwen2ForSequenceClassification'] })
    expect(refused).toThrow('Qwen2ForSequenceClassification')
    expect(refused).toThrow('supported for model_type qwen2: Qwen2ForCausalLM')
  })
})

describe('fields that change the result', () => {
  it.each([
    ['llama', 'alibi', true],
    ['llama', 'clip_qkv', 8],
    ['llama', 'logit_scale', 0.5],
    ['llama', 'embedding_multiplier', 12],
    ['llama', 'attention_multiplier', 1],
    ['llama', 'attn_logit_softcapping', 50],
    ['llama', 'num_local_experts', 8],
    ['llama', 'sliding_window', 64],
    ['llama', 'use_sliding_window', true],
    ['llama', 'window_size', 128],
    ['llama', 'layer_rope_theta', [1e4, 1e4, 1e6, 1e4]],
    ['llama', 'swiglu_alpha', 1.702],
    ['llama', 'mlp_up_softcap', 3],
    ['llama', 'qk_l2_clip_threshold', 3],
    ['llama', 'use_attention_gate', true],
    ['llama', 'moe_k', 2],
    ['llama', 'rescale_every', 6],
    ['qwen2', 'dual_chunk_attention_config', { chunk_size: 262144, local_size: 8192 }],
    ['qwen3_moe', 'use_expert_bias', true],
    ['llama', 'layer_types', ['full_attention', 'sliding_attention']],
    ['llama', 'rope_interleaved', true],
    ['llama', 'no_rope_layers', [1, 0]],
    ['llama', 'qk_layernorm', true],
    ['llama', 'is_causal', false],
    ['llama', 'per_layer_config', { '0': { head_dim: 3 } }],
    ['llama', 'layer_norm_eps', 1e-3],
    ['stablelm', 'norm_eps', 1e-6],
    ['llama', 'hidden_activation', 'gelu'],
    ['mistral', 'attention_bias', true],
    ['llama', 'quantization', { group_size: 64, bits: 4 }],
    ['qwen3_moe', 'use_qk_norm', false],
    ['llama', 'use_rotary_embedding', false],
    ['gemma', 'use_bidirectional_attention', true],
    ['gemma3_text', 'use_bidirectional_attention', true],
    ['gemma3_text', 'attn_logit_softcapping', 50],
    ['gemma2', 'hidden_act', 'relu'],
    ['gemma', 'hidden_act', 'silu'],
    ['phi3', 'lm_head_bias', true],
    ['qwen2', 'qkv_bias', false],
    ['qwen3_moe', 'shared_expert_intermediate_size', 10],
    ['mixtral', 'norm_topk_prob', false],
    ['stablelm', 'head_dim', 16],
    ['gpt_neox', 'num_key_value_heads', 4],
    ['olmo3', 'rope_theta', 10000],
    ['granite', 'mamba_d_conv', undefined],
  ])('%s refuses %s %j', (family, field, value) => {
    if (value === undefined) return expect(() => describeModel(family)).not.toThrow()
    const refused = () => describeModel(family, { [field]: value })
    expect(refused).toThrow(UnsupportedError)
    expect(refused).toThrow(`a/config.json: ${field} `)
    expect(refused).toThrow(JSON.stringify(value))
    expect(refused).toThrow(family)
  })

  it.each([
    ['llama', { clip_qkv: null, alibi: false, logit_scale: 1, num_experts: 0, no_rope_layers: [1, 1] }],
    ['llama', { sliding_window: 4096, use_sliding_window: false, max_window_layers: 3 }],
    ['llama', { layer_types: ['full_attention', 'full_attention'], partial_rotary_factor: 1 }],
    ['llama', { rms_norm_eps: 1e-5, layer_norm_eps: 1e-3 }],
    [
      'llama',
      {
        max_position_embeddings: 2048,
        rope_theta: 500,
        layer_rope_theta: [500, 500],
        window_size: 2048,
        rescale_every: 0,
        moe_k: 0,
      },
    ],
    ['llama', { use_expert_bias: false, use_attention_gate: false, swiglu_alpha: null }],
    ['llama', { quantization_config: { quant_method: 'gptvq', version: 1 } }],
    [
      'llama',
      { auto_map: {}, unsloth_fixed: true, torch_dtype: 'bfloat16', pretraining_tp: 4, new_field: [1] },
    ],
    ['mistral', { layer_types: Array(4).fill('sliding_attention') }],
    ['qwen3_moe', { use_qk_norm: true, qkv_bias: false, shared_expert_intermediate_size: 0, num_experts: 8 }],
    ['qwen2', { sliding_window: 0, use_sliding_window: false, qkv_bias: true }],
    ['gemma', { hidden_act: 'gelu', hidden_activation: null }],
    ['gemma2', { hidden_activation: 'gelu_pytorch_tanh', hidden_act: 'gelu_pytorch_tanh' }],
    ['mixtral', { router_jitter_noise: 0.1, router_aux_loss_coef: 0.02, norm_topk_prob: true }],
    ['gpt_neox', { rotary_pct: 0.5, partial_rotary_factor: 0.5, rotary_emb_base: 700, rope_theta: 700 }],
    ['stablelm', { head_dim: 8 }],
    ['stablelm', { rope_pct: 0.25, norm_eps: 1e-5 }],
    ['stablelm', { rope_pct: 0.5, partial_rotary_factor: 0.5 }],
  ])('%s accepts %j, which changes nothing', (family, fields) => {
    expect(() => describeModel(family, fields)).not.toThrow()
  })

  it("another tool's weights are refused", () => {
    const fields = { quantization_config: { quant_method: 'awq', bits: 4 } }
    expect(() => describeModel('llama', fields)).toThrow(UnsupportedError)
    expect(() => describeModel('llama', fields)).toThrow('quant_method "awq"')
  })
})

describe('impossible fields', () => {
  it.each([
    ['llama', { hidden_size: undefined }, 'hidden_size is missing'],
    ['llama', { vocab_size: 0 }, 'vocab_size is 0'],
    ['llama', { num_hidden_layers: 1.5 }, 'num_hidden_layers is 1.5'],
    ['llama', { intermediate_size: '160' }, 'intermediate_size is "160"'],
    [
      'llama',
      { num_key_value_heads: 3 },
      'num_key_value_heads is 3; expected a divisor of num_attention_heads (8)',
    ],
    ['llama', { num_attention_heads: 7, num_key_value_heads: 7 }, 'head_dim is 9.1'],
    ['llama', { head_dim: 5 }, 'head_dim is 5; expected an even number'],
    ['llama', { rms_norm_eps: -1 }, 'rms_norm_eps is -1'],
    ['llama', { rope_theta: 'big' }, 'rope_theta is "big"'],
    ['llama', { tie_word_embeddings: 1 }, 'tie_word_embeddings is 1'],
    ['llama', { bos_token_id: -1 }, 'bos_token_id is -1'],
    ['llama', { rope_scaling: 'linear' }, 'rope_scaling is "linear"'],
    [
      'llama',
      { rope_scaling: { type: 'linear' } },
      'factor of the linear rotary scaling in rope_scaling is missing',
    ],
    [
      'llama',
      { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 1 } },
      'high_freq_factor is 1; expected more than low_freq_factor (4)',
    ],
    [
      'phi3',
      { rope_scaling: { type: 'su', short_factor: [1], long_factor: [2] } },
      'rope_scaling.short_factor is [1]',
    ],
    ['gemma2', { layer_types: ['full_attention'] }, 'expected a list of 4 entries'],
    ['gemma2', { sliding_window: null }, 'sliding_window is null'],
    [
      'qwen2',
      { layer_types: Array(4).fill('sliding_attention') },
      'use_sliding_window is missing; expected true, as layer_types asks for windows',
    ],
    [
      'smollm3',
      { layer_types: Array(4).fill('sliding_attention'), use_sliding_window: false, sliding_window: 5 },
      'use_sliding_window is false; expected true, as layer_types asks for windows',
    ],
    [
      'smollm3',
      { layer_types: Array(4).fill('sliding_attention'), use_sliding_window: true },
      'sliding_window is missing; expected a positive whole number, as layer_types asks for windows',
    ],
    ['stablelm', { rope_pct: 0.5 }, 'rope_pct is 0.5; expected what partial_rotary_factor says'],
    ['mixtral', { num_local_experts: 4, num_experts: 5 }, 'num_local_experts is 4'],
    ['mixtral', { num_local_experts: 0 }, 'num_local_experts is 0'],
    ['mixtral', { num_local_experts: 1e9 }, 'num_local_experts is 1000000000; expected at most 32768'],
    ['qwen2_moe', { num_experts: 2 ** 53 - 1 }, 'num_experts is 9007199254740991; expected at most 32768'],
    ['llama', { num_hidden_layers: 1e9 }, 'num_hidden_layers is 1000000000; expected at most 4096 layers'],
    ['granite', { logits_scaling: 1e-300 }, 'logits_scaling is 1e-300; expected a positive number, 1e-38 to'],
    ['gemma2', { final_logit_softcapping: 1e308 }, 'final_logit_softcapping is 1e+308; expected a positive'],
    ['llama', { rms_norm_eps: Number.POSITIVE_INFINITY }, 'rms_norm_eps is Infinity'],
    ['llama', { rope_scaling: { rope_type: [] } }, 'rope_scaling.rope_type is []; expected the name of'],
    ['olmoe', { num_experts: 4, num_experts_per_tok: 5 }, 'num_experts_per_tok is 5; expected at most 4'],
    ['qwen2_moe', { mlp_only_layers: [-1] }, 'mlp_only_layers is [-1]'],
    [
      'gpt_neox',
      { rotary_pct: 0.5, partial_rotary_factor: 1 },
      'partial_rotary_factor is 1; expected what rotary_pct',
    ],
  ])('%s names %j', (family, fields, message) => {
    expect(() => describeModel(family, fields)).toThrow(CheckpointError)
    expect(() => describeModel(family, fields)).toThrow(`a/config.json: `)
    expect(() => describeModel(family, fields)).toThrow(message)
  })

  it.each([
    [
      'llama',
      { hidden_act: 'quick_gelu' },
      'hidden_act "quick_gelu" is not supported for llama; supported: silu',
    ],
    ['llama', { hidden_act: 'constructor' }, 'hidden_act "constructor"'],
    ['llama', { partial_rotary_factor: 0.5 }, 'partial_rotary_factor 0.5'],
    ['llama', { rope_scaling: { partial_rotary_factor: 0.5 } }, 'partial_rotary_factor 0.5'],
    ['llama', { rope_scaling: { rope_type: 'proportional' } }, 'rope_scaling.rope_type "proportional"'],
    [
      'llama',
      { rope_parameters: { full_attention: { rope_type: 'default' } } },
      'rope_parameters.full_attention',
    ],
    ['phi3', { rope_scaling: { type: 'linear', factor: 2 } }, 'supported: default, longrope'],
    ['gemma3_text', { rope_parameters: { rope_type: 'linear', factor: 8 } }, 'rope_parameters.rope_type'],
    ['mistral', { layer_types: Array(4).fill('full_attention') }, 'supported: "sliding_attention"'],
    ['qwen3', { layer_types: Array(4).fill('chunked_attention') }, 'layer_types[0] "chunked_attention"'],
  ])('%s has no %j', (family, fields, message) => {
    expect(() => describeModel(family, fields)).toThrow(UnsupportedError)
    expect(() => describeModel(family, fields)).toThrow(message)
  })
})

describe('notes', () => {
  it('says which of two rotary sections is used', () => {
    const notes: string[] = []
    const fields = {
      rope_scaling: { type: 'linear', factor: 2 },
      rope_parameters: { rope_type: 'linear', factor: 4 },
    }
    const { blocks } = describeModel('llama', fields, notes)
    expect(blocks[0].attention.rotary?.scaling).toEqual({ kind: 'linear', factor: 2 })
    expect(notes.length).toBe(1)
    expect(notes[0]).toContain('a/config.json: rope_scaling and rope_parameters differ')
  })

  it('says that a factor without a type is not used', () => {
    const notes: string[] = []
    const { blocks } = describeModel('llama', { rope_scaling: { factor: 2 } }, notes)
    expect(blocks[0].attention.rotary?.scaling).toEqual({ kind: 'default' })
    expect(notes[0]).toContain('factor')
  })
})

describe('what files leave out or state as null', () => {
  it('takes key-value heads of null for as many as heads, whatever the default', () => {
    const heads = (fields: Record<string, unknown>) =>
      describeDecoder({ model_type: 'mistral', ...sizes, num_attention_heads: 16, ...fields }, 'x').blocks[0]
        .attention.kvHeads
    expect(heads({ num_key_value_heads: null })).toBe(16)
    expect(heads({ num_key_value_heads: undefined })).toBe(8)
  })

  it('reads token ids given alone, in a list, as null and not at all', () => {
    const ids = (fields: Record<string, unknown>) => {
      const { bosTokenId, eosTokenIds } = describeModel('llama', fields)
      return [bosTokenId, eosTokenIds]
    }
    expect(ids({ bos_token_id: 7, eos_token_id: [2, 3] })).toEqual([7, [2, 3]])
    expect(ids({ bos_token_id: null, eos_token_id: null })).toEqual([undefined, []])
    expect(ids({})).toEqual([1, [2]])
  })

  it('does not take a default for a token that the vocabulary does not hold', () => {
    expect(describeModel('smollm3')).toMatchObject({ bosTokenId: undefined, eosTokenIds: [] })
  })
})
