import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { allLinearLayers, linearLayers } from '../../../src/model/decoder/linears.js'
import { describeDecoder } from '../../../src/model/families/index.js'

function fixture(variant: string) {
  const path = new URL(`./fixtures/${variant}/config.json`, import.meta.url)
  return describeDecoder(JSON.parse(readFileSync(path, 'utf8')), variant)
}

const kindsOf = (variant: string, index: number) =>
  linearLayers(fixture(variant), index).map(({ kind }) => kind)

describe('linearLayers', () => {
  it('has the name, bias and shape of each', () => {
    const layers = linearLayers(fixture('llama-bias'), 1)
    expect(layers[2]).toEqual({
      kind: 'self_attn.v_proj',
      name: 'model.layers.1.self_attn.v_proj.weight',
      biasName: 'model.layers.1.self_attn.v_proj.bias',
      rows: 16,
      cols: 32,
    })
    expect(layers.map(({ rows, cols }) => [rows, cols])).toEqual([
      [32, 32],
      [16, 32],
      [16, 32],
      [32, 32],
      [40, 32],
      [40, 32],
      [32, 40],
    ])
    expect(layers.every(({ name, biasName }) => biasName === name.replace(/weight$/, 'bias'))).toBe(true)
    expect(linearLayers(fixture('qwen2-tied'), 0).map(({ biasName }) => biasName !== undefined)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
      false,
    ])
  })

  it('has them in the order of the forward pass, fused ones once', () => {
    expect(kindsOf('llama-mha', 0)).toEqual([
      'self_attn.q_proj',
      'self_attn.k_proj',
      'self_attn.v_proj',
      'self_attn.o_proj',
      'mlp.gate_proj',
      'mlp.up_proj',
      'mlp.down_proj',
    ])
    expect(kindsOf('phi3-window', 0)).toEqual([
      'self_attn.qkv_proj',
      'self_attn.o_proj',
      'mlp.gate_up_proj',
      'mlp.down_proj',
    ])
    expect(kindsOf('gpt_neox-parallel', 0)).toEqual([
      'attention.query_key_value',
      'attention.dense',
      'mlp.dense_h_to_4h',
      'mlp.dense_4h_to_h',
    ])
  })

  it('has the shared expert, then every other, but neither router nor gate', () => {
    const kinds = kindsOf('qwen2_moe-mlp-only', 0)
    expect(kinds.length).toBe(4 + 3 * 5 + 3)
    expect(kinds.slice(4, 7)).toEqual([
      'mlp.shared_expert.gate_proj',
      'mlp.shared_expert.up_proj',
      'mlp.shared_expert.down_proj',
    ])
    expect(kinds.slice(-3)).toEqual([
      'mlp.experts.4.gate_proj',
      'mlp.experts.4.up_proj',
      'mlp.experts.4.down_proj',
    ])
    expect(kinds).not.toContain('mlp.gate')
    expect(kinds).not.toContain('mlp.shared_expert_gate')
    expect(kindsOf('qwen2_moe-mlp-only', 1).slice(4)).toEqual([
      'mlp.gate_proj',
      'mlp.up_proj',
      'mlp.down_proj',
    ])
  })

  it('names no tensor twice in a model', () => {
    const names = allLinearLayers(fixture('mixtral-full')).map(({ name }) => name)
    expect(names.length).toBe(2 * (4 + 3 * 4))
    expect(new Set(names).size).toBe(names.length)
  })
})
