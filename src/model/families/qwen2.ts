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

/** Qwen 2 and 2.5 (arXiv 2407.10671): Llama with biases of queries, keys and values. */
export const qwen2: Family = {
  name: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 32768, kvHeads: 32 })
    const { hiddenSize, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon)
    const windows = readUpperWindows(read, layers)
    const rotary = readRotary(read, sizes)
    read.only('qkv_bias', [true])
    read.only('use_qkv_bias', [true])
    return decoder(read, {
      sizes,
      bos: undefined,
      eos: undefined,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (index, prefix) => ({
        norms: residualNorms(prefix, normsBefore, norm),
        attention: attention(prefix, sizes, { bias: true, outputBias: false, rotary, ...windows[index] }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
