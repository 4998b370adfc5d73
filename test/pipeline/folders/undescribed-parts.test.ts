import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { CheckpointError } from '../../../src/common/errors.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { refuseUndescribedParts } from '../../../src/pipeline/folders/undescribed-parts.js'
import { quantizeModel } from '../../../src/pipeline/quantize/quantize-model.js'
import { describedTensors } from '../../model/families/described-tensors.js'
import { fixtureNames, openFixture } from '../../model/families/fixture.js'
import { type TinyTensor, writeTinyModel } from '../../support/tiny-model.js'

const sizes = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 8,
  num_key_value_heads: 8,
  vocab_size: 100,
}

function refuse(family: string, fields: Record<string, unknown>, ...extra: string[]): void {
  const description = describeDecoder({ model_type: family, ...sizes, ...fields }, 'x')
  refuseUndescribedParts('a', [...describedTensors(description).keys(), ...extra], description)
}

describe('tensors that the description does not have', () => {
  it.each([
    ['llama', {}, 'model.layers.1.self_attn.q_proj.bias', 'bias'],
    ['llama', { attention_bias: true }, 'model.layers.0.mlp.down_proj.bias', 'bias'],
    ['qwen2', {}, 'model.layers.1.self_attn.o_proj.bias', 'bias'],
    ['llama', {}, 'model.layers.0.self_attn.q_norm.weight', 'norm'],
    ['llama', {}, 'model.layers.0.pre_feedforward_layernorm.weight', 'norm'],
    ['llama', {}, 'model.layers.0.input_layernorm.bias', 'norm'],
    ['llama', {}, 'model.norm.bias', 'bias'],
    ['llama', {}, 'lm_head.bias', 'bias'],
    ['stablelm', {}, 'model.layers.1.self_attn.k_layernorm.norms.3.weight', 'norm'],
    ['qwen3_moe', { num_experts: 8 }, 'model.layers.1.mlp.gate.bias', 'bias'],
    ['mixtral', {}, 'model.layers.1.block_sparse_moe.experts.3.w2.bias', 'bias'],
    ['gpt_neox', { attention_bias: false }, 'gpt_neox.layers.0.attention.dense.bias', 'bias'],
  ])('%s %j refuses %s, a %s', (family, fields, name, part) => {
    const refused = () => refuse(family, fields, name)
    expect(refused).toThrow(CheckpointError)
    expect(refused).toThrow(
      `a: the weights hold ${name}, but a ${family} with this config.json has no such ${part} `,
    )
  })

  it('are let through where they are no part of what a model computes', () => {
    refuse('llama', {}, 'model.layers.0.self_attn.rotary_emb.inv_freq', 'value_head.norm.weight')
    for (const name of ['bias', 'masked_bias', 'rotary_emb.inv_freq']) {
      refuse('gpt_neox', {}, `gpt_neox.layers.0.attention.${name}`)
    }
  })

  it.each(fixtureNames)('%s has none', async (name) => {
    const { config } = await openFixture(name)
    expect(() => refuseUndescribedParts('a', describedTensors(config).keys(), config)).not.toThrow()
  })

  it('stop a run before its work begins', async () => {
    const model = await mkdtemp(join(tmpdir(), 'gptvq-undescribed-'))
    const name = 'model.layers.0.self_attn.q_proj.bias'
    const bias: TinyTensor = { shape: [32], values: new Float32Array(32).fill(1) }
    await writeTinyModel(model, { tensors: (tensors) => tensors.set(name, bias) })
    await expect(quantizeModel({ model, method: 'rtn' })).rejects.toThrow(
      `${model}: the weights hold ${name}`,
    )
    await rm(model, { recursive: true })
  })
})
