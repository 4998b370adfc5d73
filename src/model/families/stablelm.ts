import type { NormDescription } from '../decoder/description.js'
import {
  attention,
  decoder,
  type Family,
  gatedFeedForward,
  layerNorm,
  normsBefore,
  readSizes,
  residualNorms,
} from './parts/decoder-parts.js'
import { readRotary } from './parts/rotary-settings.js'

/** StableLM (arXiv 2402.17834): Llama with LayerNorm and a quarter of each head turned; large ones have parallel blocks. */
export const stablelm: Family = {
  name: 'stablelm',
  architecture: 'StableLmForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 4096, kvHeads: 32, fixedHeadDim: true })
    const { hiddenSize, heads, kvHeads, headDim } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('layer_norm_eps', 1e-5)
    const norm = (name: string) => layerNorm(name, hiddenSize, epsilon)
    const headNorm = (name: string, count: number): NormDescription => ({
      kind: 'layer',
      size: headDim,
      epsilon,
      weights: Array.from({ length: count }, (_, head) => `${name}.norms.${head}.weight`),
      biases: [],
      offset: 0,
    })
    const bias = read.flag('use_qkv_bias', false)
    const headNorms = read.flag('qk_layernorm', false)
    const parallel = read.flag('use_parallel_residual', false)
    const rotary = readRotary(read, { ...sizes, share: 0.25 })
    // the share in files older than the family in transformers, which reads the other name
    const oldShare = read.optionalPositive('rope_pct', undefined)
    if (oldShare !== undefined && Math.floor(oldShare * headDim) !== rotary.dims) {
      read.fail('rope_pct', oldShare, 'what partial_rotary_factor says, 0.25 when left out')
    }
    const { attentionInput } = normsBefore
    return decoder(read, {
      sizes,
      bos: 0,
      eos: 0,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (_, prefix) => ({
        parallel,
        // both parts of a parallel block share one norm
        norms: residualNorms(prefix, parallel ? { attentionInput } : normsBefore, norm),
        attention: attention(prefix, sizes, {
          bias,
          outputBias: false,
          rotary,
          ...(headNorms && {
            queryNorm: headNorm(`${prefix}self_attn.q_layernorm`, heads),
            keyNorm: headNorm(`${prefix}self_attn.k_layernorm`, kvHeads),
          }),
        }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
