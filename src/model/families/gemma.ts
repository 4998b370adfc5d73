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
import { readRotary } from './parts/rotary-settings.js'

/** Gemma (arXiv 2403.08295): Llama with large heads, GELU, scaled embeddings, and norms stored as distances from 1. */
export const gemma: Family = {
  name: 'gemma',
  architecture: 'GemmaForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 8192, kvHeads: 16, headDim: 256 })
    const { hiddenSize } = sizes
    const width = read.count('intermediate_size')
    // the first files say gelu and mean its approximation by tanh, whichever of the two names they use
    for (const name of ['hidden_act', 'hidden_activation']) {
      const activation = read.activation(name, 'gelu_pytorch_tanh')
      if (!activation.startsWith('gelu')) read.refuse(name, read.value(name), '"gelu_pytorch_tanh"')
    }
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon, 1)
    const bias = read.flag('attention_bias', false)
    const rotary = readRotary(read, sizes)
    return decoder(read, {
      sizes,
      bos: 2,
      needsBos: true,
      eos: 1,
      tied: true,
      embeddingScale: Math.sqrt(hiddenSize),
      finalNorm: norm('model.norm'),
      block: (_, prefix) => ({
        norms: residualNorms(prefix, normsBefore, norm),
        attention: attention(prefix, sizes, { bias, outputBias: bias, rotary }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, 'gelu-tanh'),
      }),
    })
  },
}
