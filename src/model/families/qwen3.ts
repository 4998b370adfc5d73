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
import { readUpperWindows } from './parts/layer-kinds.js'
import { readRotary } from './parts/rotary-settings.js'

/** Qwen 3 (arXiv 2505.09388): Qwen 2 without its biases, with queries and keys normed head by head. */
export const qwen3: Family = {
  name: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 32768, kvHeads: 32, headDim: 128 })
    const { hiddenSize, headDim, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string, size = hiddenSize) => rmsNorm(name, size, epsilon)
    const bias = read.flag('attention_bias', false)
    const windows = readUpperWindows(read, layers)
    const rotary = readRotary(read, sizes)
    read.only('use_qk_norm', [true])
    return decoder(read, {
      sizes,
      bos: undefined,
      eos: undefined,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (index, prefix) => ({
        norms: residualNorms(prefix, normsBefore, norm),
        attention: attention(prefix, sizes, {
          bias,
          outputBias: bias,
          rotary,
          ...windows[index],
          queryNorm: norm(`${prefix}self_attn.q_norm`, headDim),
          keyNorm: norm(`${prefix}self_attn.k_norm`, headDim),
        }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
