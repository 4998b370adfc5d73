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

/** Granite 3: Llama with multipliers of the embedding, attention, residuals and logits (as muP asks for, arXiv 2203.03466). */
export const granite: Family = {
  name: 'granite',
  architecture: 'GraniteForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 2048 })
    const { hiddenSize } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon)
    const bias = read.flag('attention_bias', false)
    const mlpBias = read.flag('mlp_bias', false)
    const scale = read.positive('attention_multiplier', 1)
    const residualScale = read.positive('residual_multiplier', 1)
    const rotary = readRotary(read, sizes)
    return decoder(read, {
      sizes,
      bos: 1,
      eos: 2,
      tied: false,
      embeddingScale: read.positive('embedding_multiplier', 1),
      logitScale: 1 / read.positive('logits_scaling', 1),
      finalNorm: norm('model.norm'),
      block: (_, prefix) => ({
        residualScale,
        norms: residualNorms(prefix, normsBefore, norm),
        attention: attention(prefix, sizes, { bias, outputBias: bias, scale, rotary }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation, mlpBias),
      }),
    })
  },
}
