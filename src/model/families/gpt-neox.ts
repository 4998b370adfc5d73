import {
  decoder,
  type Family,
  layerNorm,
  linear,
  normsBefore,
  readSizes,
  residualNorms,
} from './parts/decoder-parts.js'
import { readRotary } from './parts/rotary-settings.js'

/** GPT-NeoX (arXiv 2204.06745) and Pythia: LayerNorm, biases, and both parts of a block side by side. */
export const gptNeox: Family = {
  name: 'gpt_neox',
  architecture: 'GPTNeoXForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 2048, fixedHeadDim: true, fixedKvHeads: true })
    const { hiddenSize, heads, kvHeads, headDim } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'gelu')
    const epsilon = read.positive('layer_norm_eps', 1e-5)
    const norm = (name: string) => layerNorm(name, hiddenSize, epsilon)
    const bias = read.flag('attention_bias', true)
    const parallel = read.flag('use_parallel_residual', true)
    const names = { theta: 'rotary_emb_base', share: 'rotary_pct' }
    const rotary = readRotary(read, { ...sizes, share: 0.25, names })
    return decoder(read, {
      sizes,
      bos: 0,
      eos: 2,
      tied: false,
      names: { embedding: 'gpt_neox.embed_in.weight', layers: 'gpt_neox.layers.', head: 'embed_out.weight' },
      finalNorm: norm('gpt_neox.final_layer_norm'),
      block: (_, prefix) => ({
        parallel,
        norms: residualNorms(prefix, normsBefore, norm),
        attention: {
          heads,
          kvHeads,
          headDim,
          scale: 1 / Math.sqrt(headDim),
          rotary,
          projections: {
            kind: 'fused',
            all: linear(prefix, 'attention.query_key_value', [3 * hiddenSize, hiddenSize], bias),
            order: 'heads',
          },
          output: linear(prefix, 'attention.dense', [hiddenSize, hiddenSize], bias),
        },
        feedForward: {
          kind: 'plain',
          activation,
          up: linear(prefix, 'mlp.dense_h_to_4h', [width, hiddenSize], true),
          down: linear(prefix, 'mlp.dense_4h_to_h', [hiddenSize, width], true),
        },
      }),
    })
  },
}
