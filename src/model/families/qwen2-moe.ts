import {
  attention,
  decoder,
  type Family,
  gatedFeedForward,
  linear,
  normsBefore,
  readSizes,
  residualNorms,
  rmsNorm,
} from './parts/decoder-parts.js'
import { readExperts, readSparseLayers, routedFeedForward } from './parts/experts.js'
import { readLayerKinds, readSwitchedWindow, wholeOr, windowsOf } from './parts/layer-kinds.js'
import { readRotary } from './parts/rotary-settings.js'

/** Qwen 1.5 and 2 with experts (arXiv 2407.10671), one of which all tokens go through, as far as its gate lets them. */
export const qwen2Moe: Family = {
  name: 'qwen2_moe',
  architecture: 'Qwen2MoeForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 32768, kvHeads: 16 })
    const { hiddenSize, layers } = sizes
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon)
    const bias = read.flag('qkv_bias', true)
    const window = readSwitchedWindow(read, 4096)
    const below = wholeOr(read, 'max_window_layers', 28)
    const kinds = readLayerKinds(read, layers, (index) =>
      window !== undefined && index % 2 === 0 && index < below ? 'sliding_attention' : 'full_attention',
    )
    const windows = windowsOf(read, kinds, window)
    const rotary = readRotary(read, sizes)
    const experts = readExperts(read, { count: 60, active: 4, sumToOne: false }, 0)
    const routed = readSparseLayers(read, experts)
    const widths = {
      dense: read.count('intermediate_size', 5632),
      expert: read.count('moe_intermediate_size', 1408),
      shared: read.count('shared_expert_intermediate_size', 5632),
    }
    return decoder(read, {
      sizes,
      bos: undefined,
      eos: undefined,
      tied: false,
      finalNorm: norm('model.norm'),
      block: (index, prefix) => {
        const feedForward = (name: string, width: number) =>
          gatedFeedForward(prefix, name, hiddenSize, width, activation)
        return {
          norms: residualNorms(prefix, normsBefore, norm),
          attention: attention(prefix, sizes, { bias, outputBias: false, rotary, ...windows[index] }),
          feedForward: !routed(index)
            ? feedForward('mlp', widths.dense)
            : {
                ...routedFeedForward(prefix, 'mlp', sizes, experts, (name) =>
                  feedForward(name, widths.expert),
                ),
                shared: {
                  feedForward: feedForward('mlp.shared_expert', widths.shared),
                  gate: linear(prefix, 'mlp.shared_expert_gate', [1, hiddenSize]),
                },
              },
        }
      },
    })
  },
}
