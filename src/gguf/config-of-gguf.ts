import { CheckpointError, UnsupportedError } from '../common/errors.js'
import { architectureOfFamily as transformersClass } from '../model/families/index.js'
import { type GgufArchitecture, ggufArchitectures } from './architectures.js'
import { factsOf, type GgufFacts } from './facts.js'
import type { GgufFile } from './read-gguf.js'
import { rotaryOfGguf } from './rotary/rotary-of-gguf.js'
import { specialIds } from './tokenizer/tokenizer-of-gguf.js'

/** The architecture of a file. @throws UnsupportedError when it is none of those that are read */
export function readArchitecture(file: GgufFile): GgufArchitecture {
  const name = file.metadata.text('general.architecture')
  const architecture = ggufArchitectures.find((candidate) => candidate.name === name)
  if (architecture !== undefined) return architecture
  throw new UnsupportedError(
    `${file.path}: the architecture ${JSON.stringify(name)} is not one that is read from GGUF files; ` +
      `supported: ${ggufArchitectures.map((known) => known.name).join(', ')}`,
  )
}

/**
 * Rebuilds the `config.json` of a GGUF file: the sizes from its metadata, what families choose (biases, tied
 * embeddings, norms of heads) from the tensors that are there.
 *
 * @throws CheckpointError for metadata that is missing, UnsupportedError for an architecture that is not read
 */
export async function configOfGguf(file: GgufFile): Promise<Record<string, unknown>> {
  const facts = factsOf(file, readArchitecture(file))
  const family = familyOf(facts)
  const heads = sameForAll(facts, 'attention.head_count')
  const hidden = facts.number('embedding_length')
  const epsilonKey = facts.architecture.layerNorm ? 'layer_norm_epsilon' : 'layer_norm_rms_epsilon'
  const epsilon = facts.number(`attention.${epsilonKey}`)
  const embedding = file.tensors.get('token_embd.weight')
  if (embedding === undefined) {
    throw new CheckpointError(`${file.path}: has no tensor "token_embd.weight": it holds no whole model`)
  }
  return {
    architectures: [transformersClass(family)],
    model_type: family,
    hidden_size: hidden,
    intermediate_size: sameForAll(facts, 'feed_forward_length'),
    num_hidden_layers: facts.number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: sameForAll(facts, 'attention.head_count_kv', heads),
    head_dim: facts.optional('attention.key_length') ?? hidden / heads,
    max_position_embeddings: facts.number('context_length'),
    vocab_size: embedding.shape[0],
    [facts.architecture.layerNorm ? 'layer_norm_eps' : 'rms_norm_eps']: epsilon,
    tie_word_embeddings: !facts.has('output.weight'),
    ...specialIds(file.metadata),
    ...(await rotaryOfGguf(facts, family)),
    ...(familyFields[family]?.(facts) ?? {}),
    torch_dtype: 'float32',
  }
}

/** Architectures that several families are written as are told apart by what they hold. */
function familyOf({ architecture, optional }: GgufFacts): string {
  const [usual] = architecture.families
  if (architecture.name === 'llama' && (optional('expert_count') ?? 0) > 0) return 'mixtral'
  if (architecture.name === 'olmo2' && optional('attention.sliding_window') !== undefined) return 'olmo3'
  return usual
}

/** A number that a file may state layer by layer. */
function sameForAll({ file, architecture }: GgufFacts, name: string, fallback?: number): number {
  const key = `${architecture.name}.${name}`
  const { metadata } = file
  if (fallback !== undefined && !metadata.has(key)) return fallback
  let values: readonly number[]
  try {
    values = metadata.numbers(key)
  } catch {
    return metadata.number(key)
  }
  if (new Set(values).size === 1) return values[0]
  throw new UnsupportedError(
    `${file.path}: ${key} differs between layers (${[...new Set(values)].join(', ')}); only models whose layers are alike are read`,
  )
}

const llamaBiases = ({ has }: GgufFacts) => ({
  attention_bias: has('blk.0.attn_q.bias'),
  mlp_bias: has('blk.0.ffn_up.bias'),
})

const attentionBias = ({ has }: GgufFacts) => ({ attention_bias: has('blk.0.attn_q.bias') })

/** What scores of Gemma 2 and 3 are scaled by: the size of a head, but in the 27B models hidden size over heads. */
const gemmaScale = (facts: GgufFacts, largest: number) => {
  const heads = sameForAll(facts, 'attention.head_count')
  const hidden = facts.number('embedding_length')
  const headDim = facts.optional('attention.key_length') ?? hidden / heads
  return { query_pre_attn_scalar: facts.number('block_count') === largest ? hidden / heads : headDim }
}

const experts = (facts: GgufFacts, sumToOne: boolean) => ({
  num_experts: facts.number('expert_count'),
  num_experts_per_tok: facts.number('expert_used_count'),
  norm_topk_prob: sumToOne,
})

const neoxLike = (facts: GgufFacts, fallback: boolean) => ({
  use_parallel_residual: facts.file.metadata.flag(
    `${facts.architecture.name}.use_parallel_residual`,
    fallback,
  ),
})

/** What a family's configuration says beyond what all do. */
const familyFields: Readonly<Record<string, (facts: GgufFacts) => Record<string, unknown>>> = {
  llama: llamaBiases,
  smollm3: llamaBiases,
  qwen3: attentionBias,
  olmo2: attentionBias,
  gemma: (facts) => ({ ...attentionBias(facts), hidden_act: 'gelu_pytorch_tanh' }),
  gemma2: (facts) => ({
    ...gemmaScale(facts, 46),
    sliding_window: facts.optional('attention.sliding_window') ?? 4096,
    attn_logit_softcapping: facts.optional('attn_logit_softcapping') ?? 50,
    final_logit_softcapping: facts.optional('final_logit_softcapping') ?? 30,
  }),
  gemma3_text: (facts) => ({
    ...gemmaScale(facts, 62),
    sliding_window: facts.number('attention.sliding_window'),
    final_logit_softcapping: facts.optional('final_logit_softcapping') ?? null,
  }),
  olmo3: (facts) => ({ ...attentionBias(facts), sliding_window: facts.number('attention.sliding_window') }),
  phi3: (facts) => ({ sliding_window: facts.optional('attention.sliding_window') || null }),
  granite: (facts) => ({
    ...llamaBiases(facts),
    embedding_multiplier: facts.optional('embedding_scale') ?? 1,
    residual_multiplier: facts.optional('residual_scale') ?? 1,
    attention_multiplier: facts.number('attention.scale'),
    logits_scaling: facts.optional('logit_scale') ?? 1,
  }),
  stablelm: (facts) => ({
    ...neoxLike(facts, !facts.has('blk.0.ffn_norm.weight')),
    use_qkv_bias: facts.has('blk.0.attn_q.bias'),
    qk_layernorm: facts.has('blk.0.attn_q_norm.weight'),
  }),
  gpt_neox: (facts) => ({ ...neoxLike(facts, true), attention_bias: facts.has('blk.0.attn_qkv.bias') }),
  mixtral: (facts) => ({
    num_local_experts: facts.number('expert_count'),
    num_experts_per_tok: facts.number('expert_used_count'),
  }),
  qwen2_moe: (facts) => ({
    ...experts(facts, false),
    moe_intermediate_size: facts.number('expert_feed_forward_length'),
    shared_expert_intermediate_size: facts.number('expert_shared_feed_forward_length'),
  }),
  qwen3_moe: (facts) => ({
    ...experts(facts, true),
    ...attentionBias(facts),
    moe_intermediate_size: facts.number('expert_feed_forward_length'),
  }),
  olmoe: (facts) => ({ ...experts(facts, false), clip_qkv: facts.optional('attention.clamp_kqv') ?? null }),
}
