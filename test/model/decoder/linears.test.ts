import { describe, expect, it } from 'vitest'
import { allLinearLayers, blockLinears, isExpert, linearLayers } from '../../../src/model/decoder/linears.js'
import { blockStages } from '../../../src/model/decoder/stages.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { fixtureNames, openFixture } from '../families/fixture.js'

const llama = (fields: Record<string, unknown>) =>
  describeDecoder(
    {
      model_type: 'llama',
      hidden_size: 64,
      intermediate_size: 160,
      num_hidden_layers: 3,
      num_attention_heads: 8,
      vocab_size: 1000,
      ...fields,
    },
    'config.json',
  )

describe('linearLayers', () => {
  it('has every kind of a Llama once, with its shape and tensor name', () => {
    const layers = linearLayers(llama({ num_key_value_heads: 2, head_dim: 16, mlp_bias: true }), 2)
    expect(layers.map(({ kind, rows, cols }) => [kind, rows, cols])).toEqual([
      ['self_attn.q_proj', 128, 64],
      ['self_attn.k_proj', 32, 64],
      ['self_attn.v_proj', 32, 64],
      ['self_attn.o_proj', 64, 128],
      ['mlp.gate_proj', 160, 64],
      ['mlp.up_proj', 160, 64],
      ['mlp.down_proj', 64, 160],
    ])
    expect(layers[3].name).toBe('model.layers.2.self_attn.o_proj.weight')
    const withBias = layers.filter(({ biasName }) => biasName !== undefined)
    expect(withBias.map(({ biasName }) => biasName)).toEqual(
      ['gate', 'up', 'down'].map((name) => `model.layers.2.mlp.${name}_proj.bias`),
    )
  })

  it('leaves a router and the gate of a shared expert out, which blockLinears has', async () => {
    const { config } = await openFixture('qwen2_moe-mlp-only')
    const routed = config.blocks.filter(({ feedForward }) => feedForward.kind === 'routed')
    expect(routed.length).toBeGreaterThan(0)
    for (const block of routed) {
      const quantized = linearLayers(config, block.index).map(({ kind }) => kind)
      const others = blockLinears(block).filter(({ kind }) => !quantized.includes(kind))
      expect(others.map(({ kind }) => kind)).toEqual(['mlp.gate', 'mlp.shared_expert_gate'])
      expect(
        blockLinears(block)
          .filter((linear) => isExpert(block, linear))
          .map(({ kind }) => kind),
      ).toEqual(quantized.filter((kind) => kind.includes('.experts.')))
    }
  })
})

describe('the stages of a block', () => {
  it.each(fixtureNames)('of %s have each layer that is quantized once', async (name) => {
    const { config } = await openFixture(name)
    const staged = config.blocks.flatMap((block) => blockStages(block).flatMap(({ linears }) => linears))
    const names = staged.map(({ module }) => `${module}.weight`)
    expect(names.sort()).toEqual(
      allLinearLayers(config)
        .map(({ name }) => name)
        .sort(),
    )
  })

  it.each(fixtureNames)('of %s use every layer, and all that they quantize', async (name) => {
    const { config } = await openFixture(name)
    for (const block of config.blocks) {
      const stages = blockStages(block)
      expect(new Set(stages.flatMap(({ uses }) => uses))).toEqual(new Set(blockLinears(block)))
      for (const { linears, uses, expert } of stages) {
        for (const linear of linears) {
          expect(uses).toContain(linear)
          expect(isExpert(block, linear)).toBe(expert !== undefined)
          // the layers of a stage share one Hessian
          expect(linear.cols).toBe(linears[0].cols)
        }
      }
    }
  })
})
