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
import { readLayerKinds, readSwitchedWindow, windowsOf } from './parts/layer-kinds.js'
import { readRotary } from './parts/rotary-settings.js'

/** SmolLM3: Llama of which every fourth layer does not know positions (arXiv 2501.18795). */
export const smollm3: Family = {
  name: 'smollm3',
  architecture: 'SmolLM3ForCausalLM',
  describe(read) {
    const sizes = readSizes(read, { maxPositions: 32768, kvHeads: 4 })
    const { hiddenSize, layers } = sizes
    const width = read.count('intermediate_size')
    const activation = read.activation('hidden_act', 'silu')
    const epsilon = read.positive('rms_norm_eps', 1e-6)
    const norm = (name: string) => rmsNorm(name, hiddenSize, epsilon)
    const bias = read.flag('attention_bias', false)
    const mlpBias = read.flag('mlp_bias', false)
    const period = read.count('no_rope_layer_interval', 4)
    // for all its name, a 1 in this list means that the layer has rotary positions
    const turned = read.list('no_rope_layers', layers, [0, 1])?.map((one) => one === 1)
    const turns = (index: number) => turned?.[index] ?? (index + 1) % period !== 0
    const window = readSwitchedWindow(read, undefined)
    const kinds = readLayerKinds(read, layers, (index) =>
      window !== undefined && !turns(index) ? 'sliding_attention' : 'full_attention',
    )
    const windows = windowsOf(read, kinds, window)
    const rotary = readRotary(read, { ...sizes, theta: 2e6 })
    return decoder(read, {
      sizes,
      bos: 128000,
      eos: 128001,
      tied: true,
      finalNorm: norm('model.norm'),
      block: (index, prefix) => ({
        norms: residualNorms(prefix, normsBefore, norm),
        attention: attention(prefix, sizes, {
          bias,
          outputBias: bias,
          ...windows[index],
          ...(turns(index) && { rotary }),
        }),
        feedForward: gatedFeedForward(prefix, 'mlp', hiddenSize, width, activation, mlpBias),
      }),
    })
  },
}
