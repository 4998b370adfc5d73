import {
  attention,
  decoder,
  type Family,
  gatedFeedForward,
  normsAround,
  readSizes,
  residualNorms,
  rmsNorm,
} from './parts/decoder-parts.js'
import { readLayerKinds, windowsOf } from './parts/layer-kinds.js'
import { readRotaryByKind } from './parts/layer-rotary.js'

/**
 * Gemma 3 (arXiv 2503.19786), text only: Gemma 2 without its caps, with queries and keys normed head by head, a window in
 * five of six layers, and rotary positions of another base in these.
 */
export const gemma3: Family = {
  name: 'gemma3_text',
  architecture: 'Gemma3ForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 131072, kvHeads: 4, headDim: 256 })
    const { hiddenSize, headDim, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_activation', 'gelu_pytorch_tanh')
    read.only('hidden_act', [read.value('hidden_activation'), 'gelu_pytorch_tanh'])
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string, size = hiddenSize) => rmsNorm(name, size, epsilon, 1)
    const bias = read.flag('attention_bias', false)
    const scale = 1 / Math.sqrt(read.positive('query_pre_attn_scalar', 256))
    const period = read.count('sliding_window_pattern', 6)
    const kinds = readLayerKinds(read, layers, (index) =>
      (index + 1) % period === 0 ? 'full_attention' : 'sliding_attention',
    )
    const windows = windowsOf(read, kinds, read.optionalCount('sliding_window', 4096))
    const rotary = readRotaryByKind(read, {
      ...sizes,
      full: read.positive('rope_theta', 1e6),
      sliding: read.positive('rope_local_base_freq', 1e4),
    })
    read.only('use_qk_norm', [true])
    return decoder(read, {
      sizes,
      bos: 2,
      needsBos: true,
      eos: 1,
      tied: true,
      embeddingScale: Math.sqrt(hiddenSize),
      logitCap: read.optionalPositive('final_logit_softcapping', undefined),
      finalNorm: norm('model.norm'),
      block: (index, prefix) => ({
        norms: residualNorms(prefix, normsAround, norm),
        attention: attention(prefix, sizes, {
          bias,
          outputBias: bias,
          scale,
          ...windows[index],
          rotary: rotary[kinds[index]],
          queryNorm: norm(`${prefix}self_attn.q_norm`, headDim),
          keyNorm: norm(`${prefix}self_attn.k_norm`, headDim),
        }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
