import {
  attention,
  decoder,
  type Family,
  linear,
  normsBefore,
  readSizes,
  residualNorms,
  rmsNorm,
} from './parts/decoder-parts.js'
import { readExperts, routedFeedForward } from './parts/experts.js'
import { sameWindow } from './parts/layer-kinds.js'
import { readRotary } from './parts/rotary-settings.js'

/** Mixtral (arXiv 2401.04088): Mistral with eight experts, of which each token goes through two. */
export const mixtral: Family = {
  name: 'mixtral',
  architecture: 'MixtralForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 131072, kvHeads: 8 })
    const { hiddenSize, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-5)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon)
    const window = sameWindow(read, layers, read.optionalCount('sliding_window', undefined))
    const rotary = readRotary(read, { ...sizes, theta: 1e6 })
    const experts = readExperts(read, { count: 8, active: 2, sumToOne: true }, 1)
    read.only('norm_topk_prob', [true])
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
        feedForward: routedFeedForward(prefix, 'block_sparse_moe', sizes, experts, (name) => ({
          kind: 'gated',
          activation,
          gate: linear(prefix, `${name}.w1`, [width, hiddenSize]),
          up: linear(prefix, `${name}.w3`, [width, hiddenSize]),
          down: linear(prefix, `${name}.w2`, [hiddenSize, width]),
        })),
      }),
    })
  },
}
