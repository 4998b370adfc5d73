import type { DecoderDescription } from '../../src/model/decoder/description.js'
import type { WeightSource } from '../../src/model/decoder/weights.js'
import { describeDecoder } from '../../src/model/families/index.js'
import type { PackedQuantizedLayer } from '../../src/packing/quantized-layer.js'
import { normals } from './random-layers.js'

/** Sizes of a model of the family llama. */
export interface ModelSizes {
  readonly name: string
  readonly hidden: number
  readonly inner: number
  readonly heads: number
  readonly kvHeads: number
  readonly blocks: number
  readonly words: number
}

export function describeSizes(sizes: ModelSizes): DecoderDescription {
  return describeDecoder(configOf(sizes), sizes.name)
}

/** Its `config.json`. */
export function configOf(sizes: ModelSizes) {
  return {
    model_type: 'llama',
    hidden_size: sizes.hidden,
    intermediate_size: sizes.inner,
    num_attention_heads: sizes.heads,
    num_key_value_heads: sizes.kvHeads,
    num_hidden_layers: sizes.blocks,
    vocab_size: sizes.words,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: false,
  }
}

/** The linear layers of a block. */
export const blockLinears: readonly string[] = [
  ...['q_proj', 'k_proj', 'v_proj', 'o_proj'].map((name) => `self_attn.${name}`),
  ...['gate_proj', 'up_proj', 'down_proj'].map((name) => `mlp.${name}`),
]

/** Its norms. */
export const blockNorms: readonly string[] = ['input_layernorm', 'post_attention_layernorm']

/** Makes a layer in the form that is measured; undefined: float32. */
export type MakeLayer = ((rows: number, cols: number) => PackedQuantizedLayer) | undefined

/** Weights of that form out of nothing; floats of one shape are made once, whoever loads them copies them. */
export function randomWeights(sizes: ModelSizes, make: MakeLayer): WeightSource {
  const floats = new Map<number, Float32Array>()
  const shape = (name: string) => shapeOf(sizes, name)
  const random = (length: number): Float32Array => {
    const own = floats.get(length) ?? normals(length, 5).map((value) => value / Math.sqrt(sizes.hidden))
    floats.set(length, own)
    return own
  }
  return {
    shape,
    floats: async (name) => {
      const wanted = shape(name)!
      if (wanted.length === 1) return new Float32Array(wanted[0]).fill(1)
      return random(wanted[0] * wanted[1])
    },
    rows: async (name, _, count) => random(count * shape(name)![1]),
    packed: async (name) => {
      const wanted = shape(name)!
      if (make === undefined || wanted.length === 1 || name === EMBEDDING) return undefined
      return make(wanted[0], wanted[1])
    },
  }
}

const EMBEDDING = 'model.embed_tokens.weight'

function shapeOf({ hidden, inner, heads, kvHeads, words }: ModelSizes, name: string): number[] | undefined {
  const kv = (hidden / heads) * kvHeads
  const part = name.replace(/^model\.layers\.\d+\./, '').replace(/\.weight$/, '')
  const shapes: Record<string, number[]> = {
    'model.embed_tokens': [words, hidden],
    lm_head: [words, hidden],
    'model.norm': [hidden],
    input_layernorm: [hidden],
    post_attention_layernorm: [hidden],
    'self_attn.q_proj': [hidden, hidden],
    'self_attn.k_proj': [kv, hidden],
    'self_attn.v_proj': [kv, hidden],
    'self_attn.o_proj': [hidden, hidden],
    'mlp.gate_proj': [inner, hidden],
    'mlp.up_proj': [inner, hidden],
    'mlp.down_proj': [hidden, inner],
  }
  return name.endsWith('.weight') ? shapes[part] : undefined
}
