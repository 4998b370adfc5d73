import {
  decoder,
  type Family,
  linear,
  normsBefore,
  readSizes,
  residualNorms,
  rmsNorm,
} from './parts/decoder-parts.js'
import { sameWindow } from './parts/layer-kinds.js'
import { readRotary } from './parts/rotary-settings.js'

/** Phi 3, 3.5 and 4 mini (arXiv 2404.14219): Llama with fused projections, part of a head turned, and longrope. */
export const phi3: Family = {
  name: 'phi3',
  architecture: 'Phi3ForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 4096 })
    const { hiddenSize, heads, kvHeads, headDim, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-5)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon)
    const window = sameWindow(read, layers, read.optionalCount('sliding_window', undefined))
    const rotary = readRotary(read, {
      ...sizes,
      share: 1,
      originalMaxPositions: 4096,
      kinds: ['default', 'longrope'],
      aliases: { su: 'longrope', yarn: 'longrope' },
    })
    return decoder(read, {
      sizes,
      bos: 1,
      eos: 32000,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (_, prefix) => ({
        norms: residualNorms(prefix, normsBefore, norm),
        attention: {
          heads,
          kvHeads,
          headDim,
          scale: 1 / Math.sqrt(headDim),
          rotary,
          ...window,
          projections: {
            kind: 'fused',
            all: linear(prefix, 'self_attn.qkv_proj', [(heads + 2 * kvHeads) * headDim, hiddenSize]),
            order: 'parts',
          },
          output: linear(prefix, 'self_attn.o_proj', [hiddenSize, heads * headDim]),
        },
        feedForward: {
          kind: 'fused',
          activation,
          gateUp: linear(prefix, 'mlp.gate_up_proj', [2 * width, hiddenSize]),
          down: linear(prefix, 'mlp.down_proj', [hiddenSize, width]),
        },
      }),
    })
  },
}
