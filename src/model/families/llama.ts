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

/** Llama (Touvron et al. 2023, arXiv 2302.13971); later ones have fewer key-value heads and scaled rotary positions. */
export const llama: Family = {
  name: 'llama',
  architecture: 'LlamaForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 2048 })
    const { hiddenSize } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon)
    const bias = read.flag('attention_bias', false)
    const mlpBias = read.flag('mlp_bias', false)
    const rotary = readRotary(read, sizes)
    return decoder(read, {
      sizes,
      bos: 1,
      eos: 2,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (_, prefix) => ({
        norms: residualNorms(prefix, normsBefore, norm),
        attention: attention(prefix, sizes, { bias, outputBias: bias, rotary }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation, mlpBias),
      }),
    })
  },
}
