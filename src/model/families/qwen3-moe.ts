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
import { readExperts, readSparseLayers, routedFeedForward } from './parts/experts.js'
import { readSwitchedWindow, sameWindow } from './parts/layer-kinds.js'
import { readRotary } from './parts/rotary-settings.js'

/** Qwen 3 with experts (arXiv 2505.09388): no shared one, and a window in all layers or none. */
export const qwen3Moe: Family = {
  name: 'qwen3_moe',
  architecture: 'Qwen3MoeForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 32768, kvHeads: 4 })
    const { hiddenSize, headDim, layers } = sizes
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string, size = hiddenSize) => rmsNorm(name, size, epsilon)
    const bias = read.flag('attention_bias', false)
    const window = sameWindow(read, layers, readSwitchedWindow(read, 4096))
    const rotary = readRotary(read, sizes)
    const experts = readExperts(read, { count: 128, active: 8, sumToOne: false }, 0)
    const routed = readSparseLayers(read, experts)
    const width = read.count('intermediate_size', 6144)
    const expertWidth = read.count('moe_intermediate_size', 768)
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
          ...window,
          queryNorm: norm(`${prefix}self_attn.q_norm`, headDim),
          keyNorm: norm(`${prefix}self_attn.k_norm`, headDim),
        }),
        feedForward: routed(index)
          ? routedFeedForward(prefix, 'mlp', sizes, experts, (name) =>
              gatedFeedForward(prefix, name, hiddenSize, expertWidth, activation),
            )
          : gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
