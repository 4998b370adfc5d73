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
import { readRotary } from './parts/rotary-settings.js'

/** Gemma 2 (arXiv 2408.00118): a norm on both sides of each part, a window in every other layer, and soft caps. */
export const gemma2: Family = {
  name: 'gemma2',
  architecture: 'Gemma2ForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 8192, kvHeads: 4, headDim: 256 })
    const { hiddenSize, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_activation', 'gelu_pytorch_tanh')
    read.only('hidden_act', [read.value('hidden_activation'), 'gelu_pytorch_tanh'])
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon, 1)
    const bias = read.flag('attention_bias', false)
    const scale = 1 / Math.sqrt(read.positive('query_pre_attn_scalar', 256))
    const softCap = read.optionalPositive('attn_logit_softcapping', 50)
    const kinds = readLayerKinds(read, layers, (index) =>
      index % 2 === 0 ? 'sliding_attention' : 'full_attention',
    )
    const windows = windowsOf(read, kinds, read.optionalCount('sliding_window', 4096))
    const rotary = readRotary(read, sizes)
    return decoder(read, {
      sizes,
      bos: 2,
      needsBos: true,
      eos: 1,
      tied: true,
      embeddingScale: Math.sqrt(hiddenSize),
      logitCap: read.optionalPositive('final_logit_softcapping', 30),
      finalNorm: norm('model.norm'),
      block: (index, prefix) => ({
        norms: residualNorms(prefix, normsAround, norm),
        attention: attention(prefix, sizes, {
          bias,
          outputBias: bias,
          scale,
          ...(softCap && { softCap }),
          ...windows[index],
          rotary,
        }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
