import { UnsupportedError } from '../../../common/errors.js'
import type { DecoderDescription } from '../../decoder/description.js'
import { type ConfigReader, isNumber, show } from './read-config.js'

/** What a file was understood as. */
interface Understood {
  readonly read: ConfigReader
  readonly description: DecoderDescription
}

type Neutral =
  | readonly unknown[]
  | ((value: unknown, config: Record<string, unknown>, understood: Understood) => boolean)

const never: Neutral = []
const one: Neutral = [1]
const zero: Neutral = [0]

/** A norm's epsilon under another name than the family's, which was given too, or whose default says the same. */
const epsilon: Neutral = (value, config, { read, description }) =>
  value === description.finalNorm.epsilon ||
  epsilons.some((name) => read.read.has(name) && config[name] !== undefined)

/**
 * Fields that change what some model computes, and the values that leave it as it is; null and false do in any case,
 * unless they are left out of `exceptions`. A family that does not read such a field refuses other values; all other
 * fields (names, training, caches, dtypes) are taken to change nothing.
 */
const resultFields: Readonly<Record<string, Neutral>> = {
  // other tools' weights
  quantization_config: (value) => (value as { quant_method?: unknown }).quant_method === 'gptvq',
  quantization: never,
  compression_config: never,
  // another shape of model
  is_encoder_decoder: never,
  add_cross_attention: never,
  cross_attention_layers: emptyList,
  text_config: never,
  vision_config: never,
  audio_config: never,
  per_layer_config: emptyList,
  block_configs: emptyList,
  layers_block_type: emptyList,
  hybrid_override_pattern: never,
  num_key_value_heads_per_layer: never,
  multi_query: never,
  num_kv_heads: never,
  num_kv_shared_layers: zero,
  hidden_size_per_layer_input: zero,
  prefix_lm: never,
  new_decoder_architecture: never,
  // what attention sees
  is_causal: [true],
  use_bidirectional_attention: never,
  sliding_window: (value, config) => config.use_sliding_window === false || spansAll(value, config),
  window_size: spansAll,
  use_sliding_window: never,
  layer_types: (value) => Array.isArray(value) && value.every((kind) => kind === 'full_attention'),
  sliding_window_pattern: (_, config) => config.sliding_window == null,
  attention_chunk_size: never,
  dual_chunk_attention_config: emptyList,
  attention_types: emptyList,
  local_attention: never,
  attention_sinks: never,
  use_attention_sinks: never,
  // what attention computes
  head_dim: (value, config) => value === Number(config.hidden_size) / Number(config.num_attention_heads),
  num_key_value_heads: (value, config) => value === config.num_attention_heads,
  attention_bias: never,
  qkv_bias: never,
  use_qkv_bias: never,
  add_qkv_bias: never,
  add_bias_linear: never,
  use_bias: never,
  mlp_bias: never,
  lm_head_bias: never,
  qk_layernorm: never,
  qk_ln: never,
  qk_norm: never,
  use_qk_norm: never,
  clip_qkv: never,
  attn_logit_softcapping: never,
  query_pre_attn_scalar: never,
  attention_multiplier: never,
  attention_in_multiplier: one,
  attention_out_multiplier: one,
  attention_value_scale: one,
  attention_logit_cap: never,
  attention_out_bias: never,
  attention_k_eq_v: never,
  attn_scale: zero,
  softmax_scale: never,
  o_lora_rank: never,
  attn_temperature_tuning: zero,
  scale_attn_by_inverse_layer_idx: never,
  scale_attn_weights: [true],
  kv_lora_rank: never,
  q_lora_rank: never,
  attn_output_gate: never,
  use_attention_gate: never,
  qk_l2_clip_threshold: never,
  // positions
  alibi: never,
  learned_pos_emb: never,
  use_rotary_embedding: [true],
  position_embedding_type: ['rope', 'rotary', 'absolute'],
  rope_theta: never,
  layer_rope_theta: (value, config) =>
    Array.isArray(value) && value.every((theta) => theta === config.rope_theta),
  rope_scaling: emptyList,
  rope_parameters: emptyList,
  rope_interleaved: never,
  rope_interleave: never,
  rotary_interleaved: never,
  rope_local_base_freq: never,
  partial_rotary_factor: one,
  rotary_pct: one,
  rope_pct: (value, config) => value === (config.partial_rotary_factor ?? 1),
  rotary_percent: one,
  rotary_dim: (value, config) => value === config.head_dim,
  rotary_emb_base: (value, config) => value === config.rope_theta,
  rope_ratio: one,
  original_max_position_embeddings: never,
  no_rope_layers: (value) => Array.isArray(value) && value.every((turned) => turned === 1),
  no_rope_layer_interval: zero,
  // scales and caps
  embedding_multiplier: one,
  residual_multiplier: one,
  logits_scaling: one,
  logit_scale: one,
  final_logit_softcapping: never,
  scale_emb: one,
  scale_depth: never,
  dim_model_base: never,
  scale_embedding: never,
  scale_embeddings: never,
  embedding_scale: one,
  residual_scale: one,
  logits_soft_cap: never,
  output_logit_soft_cap: never,
  mup_enabled: never,
  use_mup: never,
  lm_head_multiplier: one,
  rescale_every: zero,
  key_multiplier: one,
  // norms and order
  rms_norm_eps: epsilon,
  layer_norm_eps: epsilon,
  layer_norm_epsilon: epsilon,
  layernorm_epsilon: epsilon,
  norm_eps: epsilon,
  norm_epsilon: epsilon,
  layernorm_1p: never,
  layer_norm_elementwise_affine: [true],
  use_post_norm: never,
  use_sandwich_norm: never,
  norm_type: ['rms', 'rms_norm', 'rmsnorm'],
  use_parallel_residual: never,
  parallel_residual: never,
  parallel_attn: never,
  apply_residual_connection_post_layernorm: never,
  do_layer_norm_before: [true],
  // feed-forward
  hidden_act: never,
  hidden_activation: never,
  activation_function: never,
  swiglu_limit: never,
  swiglu_alpha: never,
  mlp_up_softcap: never,
  mlp_multipliers: emptyList,
  mlp_layer_types: (value) => Array.isArray(value) && value.every((kind) => kind === 'dense'),
  num_experts: zero,
  num_local_experts: zero,
  n_routed_experts: zero,
  moe_num_experts: zero,
  moe_k: zero,
  use_expert_bias: never,
  n_shared_experts: zero,
  num_shared_experts: zero,
  shared_expert_intermediate_size: zero,
  shared_intermediate_size: zero,
  norm_topk_prob: never,
  scoring_func: ['softmax'],
  topk_method: ['greedy'],
  routed_scaling_factor: one,
  router_scaling_factor: one,
  route_scale: one,
  moe_router_logit_softcapping: zero,
  n_group: one,
  topk_group: one,
  moe_layer_freq: one,
  first_k_dense_replace: zero,
  decoder_sparse_step: one,
  mlp_only_layers: emptyList,
}

const epsilons = [
  'rms_norm_eps',
  'layer_norm_eps',
  'layer_norm_epsilon',
  'layernorm_epsilon',
  'norm_eps',
  'norm_epsilon',
]

/** Whether a window holds all that a model can see. */
function spansAll(value: unknown, { max_position_embeddings: longest }: Record<string, unknown>): boolean {
  return isNumber(value) && isNumber(longest) && value >= longest
}

function emptyList(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

/** Of these, false is no neutral value. */
const exceptions = new Set([
  'is_causal',
  'scale_attn_weights',
  'do_layer_norm_before',
  'use_rotary_embedding',
  'layer_norm_elementwise_affine',
])

/**
 * Refuses fields that change the result and that the family did not read.
 *
 * @throws UnsupportedError naming the first of them
 */
export function refuseUnread(
  config: Record<string, unknown>,
  read: ConfigReader,
  description: DecoderDescription,
): void {
  const understood = { read, description }
  for (const [name, neutral] of Object.entries(resultFields)) {
    const value = config[name] ?? undefined
    if (value === undefined || read.read.has(name)) continue
    if (value === false && !exceptions.has(name)) continue
    const harmless =
      typeof neutral === 'function' ? neutral(value, config, understood) : neutral.includes(value)
    if (!harmless) throw unread(name, value, read)
  }
}

function unread(name: string, value: unknown, { family, where }: ConfigReader): UnsupportedError {
  if (name === 'quantization_config') {
    return new UnsupportedError(
      `${where}: quantization_config is of quant_method ${show((value as { quant_method?: unknown }).quant_method)}; ` +
        'supported: "gptvq" or no quantization_config. Give the model as it was before another tool quantized it',
    )
  }
  return new UnsupportedError(
    `${where}: ${name} is ${show(value)}, which is not supported for ${family} and would change what the model computes. ` +
      `Give a model without ${name}; or, if this one was trained without it, delete the field`,
  )
}
