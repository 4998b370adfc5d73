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
import { sameWindow } from './parts/layer-kinds.js'
import { readRotary } from './parts/rotary-settings.js'

/** Mistral (Jiang et al. 2023, arXiv 2310.06825): Llama that sees a window, in its first release at least. */
export const mistral: Family = {
  name: 'mistral',
  architecture: 'MistralForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 131072, kvHeads: 8 })
    const { hiddenSize, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon)
    const window = sameWindow(read, layers, read.optionalCount('sliding_window', 4096))
    const rotary = readRotary(read, sizes)
    return decoder(read, {
      sizes,
      bos: 1,
      eos: 2,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (_, prefix) => ({
        norms: residualNorms(prefix, normsBefore, norm),
        attention: attention(prefix, sizes, {
          bias: false,
          outputBias: false,
          rotary,
          ...window,
        }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
