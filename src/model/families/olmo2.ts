import {
  attention,
  decoder,
  type Family,
  gatedFeedForward,
  normsAfter,
  readSizes,
  residualNorms,
  rmsNorm,
} from './parts/decoder-parts.js'
import { readRotary } from './parts/rotary-settings.js'

/** OLMo 2 (arXiv 2501.00656): norms behind each part instead of in front, and over all queries and all keys. */
export const olmo2: Family = {
  name: 'olmo2',
  architecture: 'Olmo2ForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 2048 })
    const { hiddenSize, heads, kvHeads, headDim } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-5)
    const norm = (name: string, size = hiddenSize) => rmsNorm(name, size, epsilon)
    const bias = read.flag('attention_bias', false)
    const rotary = readRotary(read, sizes)
    read.only('use_qk_norm', [true])
    return decoder(read, {
      sizes,
      bos: undefined,
      eos: 50279,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (_, prefix) => ({
        norms: residualNorms(prefix, normsAfter, norm),
        attention: attention(prefix, sizes, {
          bias,
          outputBias: bias,
          rotary,
          queryNorm: norm(`${prefix}self_attn.q_norm`, heads * headDim),
          keyNorm: norm(`${prefix}self_attn.k_norm`, kvHeads * headDim),
        }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
