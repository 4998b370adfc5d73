import {
  attention,
  decoder,
  type Family,
  gatedFeedForward,
  normsBefore,
  readSizes,
  residualNorms,
  rmsNorm,
} from './parts/decoder-parts.js'
import { readExperts, routedFeedForward } from './parts/experts.js'
import { readRotary } from './parts/rotary-settings.js'

/** OLMoE (arXiv 2409.02060): 64 small experts, and norms over all queries and all keys. */
export const olmoe: Family = {
  name: 'olmoe',
  architecture: 'OlmoeForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 4096, fixedHeadDim: true })
    const { hiddenSize, kvHeads, headDim } = sizes
    const width = read.count('intermediate_size', 2048)
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-5)
    const norm = (name: string, size = hiddenSize) => rmsNorm(name, size, epsilon)
    const bias = read.flag('attention_bias', false)
    const clip = read.optionalPositive('clip_qkv', undefined)
    const rotary = readRotary(read, sizes)
    const experts = readExperts(read, { count: 64, active: 8, sumToOne: false }, 1)
    read.only('use_qk_norm', [true])
    return decoder(read, {
      sizes,
      bos: undefined,
      eos: 50279,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (_, prefix) => ({
        norms: residualNorms(prefix, normsBefore, norm),
        attention: attention(prefix, sizes, {
          bias,
          outputBias: bias,
          rotary,
          ...(clip && { clip }),
          queryNorm: norm(`${prefix}self_attn.q_norm`),
          keyNorm: norm(`${prefix}self_attn.k_norm`, kvHeads * headDim),
        }),
        feedForward: routedFeedForward(prefix, 'mlp', sizes, experts, (name) =>
          gatedFeedForward(prefix, name, hiddenSize, width, activation),
        ),
      }),
    })
  },
}
