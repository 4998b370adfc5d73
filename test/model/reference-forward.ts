import { randomGenerator, randomNormal } from '../../src/common/random.js'
import type { TestTensor } from './tiny-llama.js'

/**
 * The Llama forward pass once more, in float64, one token and one number at a time, sharing no code with the library.
 */

/** The fields of a config.json that the reference reads. */
export interface ReferenceConfig {
  model_type: 'llama' | 'mistral'
  hidden_size: number
  intermediate_size: number
  num_hidden_layers: number
  num_attention_heads: number
  num_key_value_heads: number
  head_dim: number
  vocab_size: number
  max_position_embeddings: number
  rms_norm_eps: number
  rope_theta: number
  rope_scaling: Record<string, string | number> | null
  tie_word_embeddings: boolean
  attention_bias: boolean
  mlp_bias: boolean
  sliding_window: number | null
  bos_token_id: number
  eos_token_id: number
}

export const smallConfig: ReferenceConfig = {
  model_type: 'llama',
  hidden_size: 12,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  head_dim: 6,
  vocab_size: 17,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  rope_scaling: null,
  tie_word_embeddings: false,
  attention_bias: false,
  mlp_bias: false,
  sliding_window: null,
  bos_token_id: 0,
  eos_token_id: 0,
}

/** Random weights of every tensor that such a model has. */
export function randomTensors(config: ReferenceConfig, seed: number): Map<string, TestTensor> {
  const random = randomGenerator(seed)
  const tensors = new Map<string, TestTensor>()
  const add = (name: string, shape: number[], spread: number, centre = 0) => {
    const size = shape.reduce((product, n) => product * n, 1)
    const values = Float32Array.from({ length: size }, () => centre + spread * randomNormal(random))
    tensors.set(name, { shape, values })
  }
  const { hidden_size: hidden, intermediate_size: wide, vocab_size: vocab } = config
  const queries = config.num_attention_heads * config.head_dim
  const keys = config.num_key_value_heads * config.head_dim
  add('model.embed_tokens.weight', [vocab, hidden], 1)
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const block = `model.layers.${i}`
    const linear = (name: string, rows: number, cols: number, bias: boolean) => {
      add(`${block}.${name}.weight`, [rows, cols], 1.5 / Math.sqrt(cols))
      if (bias) add(`${block}.${name}.bias`, [rows], 0.5)
    }
    linear('self_attn.q_proj', queries, hidden, config.attention_bias)
    linear('self_attn.k_proj', keys, hidden, config.attention_bias)
    linear('self_attn.v_proj', keys, hidden, config.attention_bias)
    linear('self_attn.o_proj', hidden, queries, config.attention_bias)
    linear('mlp.gate_proj', wide, hidden, config.mlp_bias)
    linear('mlp.up_proj', wide, hidden, config.mlp_bias)
    linear('mlp.down_proj', hidden, wide, config.mlp_bias)
    add(`${block}.input_layernorm.weight`, [hidden], 0.2, 1)
    add(`${block}.post_attention_layernorm.weight`, [hidden], 0.2, 1)
  }
  add('model.norm.weight', [hidden], 0.2, 1)
  if (!config.tie_word_embeddings) add('lm_head.weight', [vocab, hidden], 1 / Math.sqrt(hidden))
  return tensors
}

/** Logits of one sequence, and the inputs of the linear layers: `inputs.get(weight name)[position]`. */
export function referenceForward(
  config: ReferenceConfig,
  tensors: ReadonlyMap<string, TestTensor>,
  tokens: readonly number[],
): { logits: number[][]; inputs: Map<string, number[][]> } {
  const inputs = new Map<string, number[][]>()
  const embedding = tensors.get('model.embed_tokens.weight')!
  let hidden = tokens.map((token) =>
    Array.from(embedding.values.slice(token * config.hidden_size, (token + 1) * config.hidden_size)),
  )
  for (let i = 0; i < config.num_hidden_layers; i++) {
    hidden = referenceBlock(config, tensors, i, hidden, (name, x) => {
      inputs.set(name, [...(inputs.get(name) ?? []), x])
    })
  }
  return { logits: referenceHead(config, tensors, hidden), inputs }
}

/** The output of block `i` for the hidden states of one sequence. */
export function referenceBlock(
  config: ReferenceConfig,
  tensors: ReadonlyMap<string, TestTensor>,
  i: number,
  hidden: number[][],
  onInput: (name: string, x: number[]) => void = () => {},
): number[][] {
  const block = `model.layers.${i}`
  const apply = (name: string, x: number[]) => {
    onInput(`${block}.${name}`, x)
    return applyLinear(tensors, `${block}.${name}`, x)
  }
  const normed = hidden.map((x) => norm(config, tensors, `${block}.input_layernorm.weight`, x))
  const q = normed.map((x, t) => rotate(config, apply('self_attn.q_proj', x), t))
  const k = normed.map((x, t) => rotate(config, apply('self_attn.k_proj', x), t))
  const v = normed.map((x) => apply('self_attn.v_proj', x))
  const mixed = hidden.map((_, t) => attend(config, q[t], k, v, t))
  const middle = mixed.map((x, t) => plus(hidden[t], apply('self_attn.o_proj', x)))
  return middle.map((x) => {
    const input = norm(config, tensors, `${block}.post_attention_layernorm.weight`, x)
    const gate = apply('mlp.gate_proj', input)
    const up = apply('mlp.up_proj', input)
    const gated = gate.map((g, j) => (g / (1 + Math.exp(-g))) * up[j])
    return plus(x, apply('mlp.down_proj', gated))
  })
}

/** The logits that the last hidden states give. */
export function referenceHead(
  config: ReferenceConfig,
  tensors: ReadonlyMap<string, TestTensor>,
  hidden: number[][],
): number[][] {
  const head = config.tie_word_embeddings ? 'model.embed_tokens' : 'lm_head'
  return hidden.map((x) => applyLinear(tensors, head, norm(config, tensors, 'model.norm.weight', x)))
}

function applyLinear(tensors: ReadonlyMap<string, TestTensor>, name: string, x: number[]): number[] {
  const { shape, values } = tensors.get(`${name}.weight`)!
  const bias = tensors.get(`${name}.bias`)?.values
  return Array.from({ length: shape[0] }, (_, row) => {
    let sum = bias?.[row] ?? 0
    for (let col = 0; col < shape[1]; col++) sum += values[row * shape[1] + col] * x[col]
    return sum
  })
}

function norm(
  config: ReferenceConfig,
  tensors: ReadonlyMap<string, TestTensor>,
  name: string,
  x: number[],
): number[] {
  const scale = tensors.get(name)!.values
  const meanSquare = x.reduce((sum, v) => sum + v * v, 0) / x.length
  return x.map((v, i) => (v / Math.sqrt(meanSquare + config.rms_norm_eps)) * scale[i])
}

const plus = (a: number[], b: number[]) => a.map((x, i) => x + b[i])

/** Turns the pair (j, j + headDim / 2) of each head as a point of the plane. */
function rotate(config: ReferenceConfig, x: number[], position: number): number[] {
  const turned = x.slice()
  const half = config.head_dim / 2
  for (let head = 0; head * config.head_dim < x.length; head++) {
    for (let j = 0; j < half; j++) {
      const a = head * config.head_dim + j
      const angle = position * frequency(config, j)
      turned[a] = x[a] * Math.cos(angle) - x[a + half] * Math.sin(angle)
      turned[a + half] = x[a + half] * Math.cos(angle) + x[a] * Math.sin(angle)
    }
  }
  return turned
}

function frequency(config: ReferenceConfig, pair: number): number {
  const plain = 1 / config.rope_theta ** ((2 * pair) / config.head_dim)
  const scaling = config.rope_scaling as Record<string, number> | null
  if (scaling === null) return plain
  const type = String(scaling.rope_type)
  if (type === 'linear') return plain / scaling.factor
  const original = scaling.original_max_position_embeddings
  const wavelength = (2 * Math.PI) / plain
  if (wavelength < original / scaling.high_freq_factor) return plain
  if (wavelength > original / scaling.low_freq_factor) return plain / scaling.factor
  const smooth =
    (original / wavelength - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
  return ((1 - smooth) * plain) / scaling.factor + smooth * plain
}

function attend(config: ReferenceConfig, q: number[], k: number[][], v: number[][], t: number): number[] {
  const { head_dim: dim, num_attention_heads: heads, num_key_value_heads: kvHeads } = config
  const seen: number[] = []
  for (let s = 0; s <= t; s++) {
    if (config.sliding_window === null || t - s < config.sliding_window) seen.push(s)
  }
  return Array.from({ length: heads }, (_, head) => {
    const shared = Math.floor((head * kvHeads) / heads)
    const scores = seen.map((s) => {
      let sum = 0
      for (let j = 0; j < dim; j++) sum += q[head * dim + j] * k[s][shared * dim + j]
      return Math.exp(sum / Math.sqrt(dim))
    })
    const total = scores.reduce((sum, score) => sum + score, 0)
    return Array.from({ length: dim }, (_, j) =>
      seen.reduce((sum, s, i) => sum + (scores[i] / total) * v[s][shared * dim + j], 0),
    )
  }).flat()
}
