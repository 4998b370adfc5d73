import type { BlockDescription, DecoderDescription, RotaryDescription } from '../model/decoder/description.js'
import type { GgufArchitecture } from './architectures.js'
import type { GgufValue } from './write-header.js'

const u32 = (value: number): GgufValue => ({ kind: 'u32', value })
const f32 = (value: number): GgufValue => ({ kind: 'f32', value })

/**
 * What llama.cpp wants to know of a model, by key less the architecture's prefix. The description must be one that
 * {@link requireRepresentable} lets through.
 *
 * @param width of the feed-forward part that `config.json` states
 */
export function metadataOfModel(
  decoder: DecoderDescription,
  architecture: GgufArchitecture,
  width: number,
): Map<string, GgufValue> {
  const [first] = decoder.blocks
  const { heads, kvHeads, headDim } = first.attention
  const rotary = decoder.blocks.find((block) => block.attention.rotary && !block.attention.window)?.attention
    .rotary
  const values: Record<string, GgufValue> = {
    block_count: u32(decoder.blocks.length),
    context_length: u32(decoder.maxPositions),
    embedding_length: u32(decoder.hiddenSize),
    feed_forward_length: u32(width),
    vocab_size: u32(decoder.vocabSize),
    'attention.head_count': u32(heads),
    'attention.head_count_kv': u32(kvHeads),
    'attention.key_length': u32(headDim),
    'attention.value_length': u32(headDim),
    [`attention.${architecture.layerNorm ? 'layer_norm_epsilon' : 'layer_norm_rms_epsilon'}`]: f32(
      decoder.finalNorm.epsilon,
    ),
    ...rotaryValues(rotary ?? anyRotary(decoder)),
    ...windowValues(decoder),
    ...expertValues(first),
    ...traits[decoder.family]?.(decoder),
  }
  return new Map(Object.entries(values).map(([key, value]) => [`${architecture.name}.${key}`, value]))
}

function anyRotary({ blocks }: DecoderDescription): RotaryDescription | undefined {
  return blocks.find((block) => block.attention.rotary)?.attention.rotary
}

function rotaryValues(rotary: RotaryDescription | undefined): Record<string, GgufValue> {
  if (rotary === undefined) return {}
  const { scaling, theta, dims } = rotary
  const base = { 'rope.dimension_count': u32(dims), 'rope.freq_base': f32(theta) }
  const kind = (value: string): Record<string, GgufValue> => ({
    ...base,
    'rope.scaling.type': { kind: 'text', value },
  })
  switch (scaling.kind) {
    case 'linear':
      return { ...kind('linear'), 'rope.scaling.factor': f32(scaling.factor) }
    case 'yarn': {
      const usual = 0.1 * Math.log(scaling.factor) + 1
      const share = scaling.attentionFactor / (scaling.factor <= 1 ? 1 : usual)
      return {
        ...kind('yarn'),
        'rope.scaling.factor': f32(scaling.factor),
        'rope.scaling.original_context_length': u32(scaling.originalMaxPositions),
        'rope.scaling.yarn_beta_fast': f32(scaling.betaFast),
        'rope.scaling.yarn_beta_slow': f32(scaling.betaSlow),
        ...(Math.abs(share - 1) > 1e-6 && { 'rope.scaling.attn_factor': f32(share) }),
      }
    }
    case 'longrope':
      return {
        ...kind('longrope'),
        'rope.scaling.original_context_length': u32(scaling.originalMaxPositions),
        'rope.scaling.attn_factor': f32(scaling.attentionFactor),
      }
    default:
      return base
  }
}

/** Only architectures that llama.cpp gives windows to; elsewhere a window is noted and left out. */
function windowValues({ family, blocks }: DecoderDescription): Record<string, GgufValue> {
  const windowed = blocks.find(({ attention }) => attention.window !== undefined)?.attention
  if (windowed?.window === undefined) return {}
  if (!['gemma2', 'gemma3_text', 'olmo3', 'phi3'].includes(family)) return {}
  const local = family === 'gemma3_text' ? windowed.rotary : undefined
  return {
    'attention.sliding_window': u32(windowed.window),
    ...(local && { 'rope.freq_base_swa': f32(local.theta) }),
  }
}

function expertValues({ feedForward }: BlockDescription): Record<string, GgufValue> {
  if (feedForward.kind !== 'routed') return {}
  const { experts, active, shared } = feedForward
  return {
    expert_count: u32(experts.length),
    expert_used_count: u32(active),
    expert_feed_forward_length: u32(experts[0].down.cols),
    ...(shared && { expert_shared_feed_forward_length: u32(shared.feedForward.down.cols) }),
  }
}

const parallel = ({ blocks }: DecoderDescription): Record<string, GgufValue> => ({
  use_parallel_residual: { kind: 'bool', value: blocks[0].parallel },
})

const caps = ({ blocks, head }: DecoderDescription): Record<string, GgufValue> => {
  const { softCap } = blocks[0].attention
  return {
    ...(softCap !== undefined && { attn_logit_softcapping: f32(softCap) }),
    ...(head.softCap !== undefined && { final_logit_softcapping: f32(head.softCap) }),
  }
}

/** What single families say beyond what all do. */
const traits: Readonly<Record<string, (decoder: DecoderDescription) => Record<string, GgufValue>>> = {
  gpt_neox: parallel,
  stablelm: parallel,
  gemma2: caps,
  gemma3_text: caps,
  granite: ({ embedding, blocks, head }) => ({
    embedding_scale: f32(embedding.scale),
    residual_scale: f32(blocks[0].residualScale),
    'attention.scale': f32(blocks[0].attention.scale),
    logit_scale: f32(1 / head.scale),
  }),
}
