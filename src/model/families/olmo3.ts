import {
  attention,
  decoder,
  type Family,
  gatedFeedForward,
  normsAfter,
  readSizes,
  residualNorms,
  rmsNorm,
} from './parts/decoder-parts.js'
import { readLayerKinds, windowsOf } from './parts/layer-kinds.js'
import { readRotaryByKind } from './parts/layer-rotary.js'

/** OLMo 3 (arXiv 2512.13961): OLMo 2 with a window in three of four layers, whose rotary positions are not scaled. */
export const olmo3: Family = {
  name: 'olmo3',
  architecture: 'Olmo3ForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 2048 })
    const { hiddenSize, heads, kvHeads, headDim, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-5)
    const norm = (name: string, size = hiddenSize) => rmsNorm(name, size, epsilon)
    const bias = read.flag('attention_bias', false)
    const kinds = readLayerKinds(read, layers, (index) =>
      (index + 1) % 4 === 0 ? 'full_attention' : 'sliding_attention',
    )
    const windows = windowsOf(read, kinds, read.optionalCount('sliding_window', 4096))
    const theta = read.positive('rope_theta', 5e5)
    const rotary = readRotaryByKind(read, { ...sizes, full: theta, sliding: 5e5 })
    if (theta !== 5e5 && rotary.sliding_attention.theta === 5e5) {
      // transformers 4 takes the base at the top level for that of all layers, 5 not for those with a window
      read.refuse('rope_theta', theta, '500000, or bases in the sections of rope_parameters')
    }
    read.only('use_qk_norm', [true])
    return decoder(read, {
      sizes,
      bos: undefined,
      eos: 50279,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (index, prefix) => ({
        norms: residualNorms(prefix, normsAfter, norm),
        attention: attention(prefix, sizes, {
          bias,
          outputBias: bias,
          ...windows[index],
          rotary: rotary[kinds[index]],
          queryNorm: norm(`${prefix}self_attn.q_norm`, heads * headDim),
          keyNorm: norm(`${prefix}self_attn.k_norm`, kvHeads * headDim),
        }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation),
      }),
    })
  },
}
