import { CheckpointError, UnsupportedError } from '../errors.js'
import { parseRopeScaling, type RopeScaling, ropeSection } from './rope-config.js'

/** Values of `model_type` that the forward pass knows. */
export const supportedModelTypes = ['llama', 'mistral'] as const

/** A supported value of `model_type`. */
export type ModelType = (typeof supportedModelTypes)[number]

/** What the forward pass needs to know of a `config.json`. Sizes are counts of values, not bytes. */
export interface LlamaConfig {
  /** `model_type`. */
  readonly modelType: ModelType
  /** `hidden_size`: width of the residual stream. */
  readonly hiddenSize: number
  /** `intermediate_size`: width inside an MLP. */
  readonly intermediateSize: number
  /** `num_hidden_layers`: blocks. */
  readonly layers: number
  /** `num_attention_heads`. */
  readonly heads: number
  /** Key-value heads; divides `heads`. */
  readonly kvHeads: number
  /** `head_dim`: values of a query, key or value of one head. */
  readonly headDim: number
  /** `vocab_size`: token ids are less than this. */
  readonly vocabSize: number
  /** The longest sequence the model was made for, in tokens. */
  readonly maxPositions: number
  /** `rms_norm_eps`: added to the mean square in a norm. */
  readonly rmsNormEps: number
  /** `rope_theta`: base of the rotary frequencies. */
  readonly ropeTheta: number
  /** How these are stretched. */
  readonly ropeScaling: RopeScaling
  /** `tie_word_embeddings`: the head is the embedding. */
  readonly tieWordEmbeddings: boolean
  /** `attention_bias`: biases in `q_proj`, `k_proj`, `v_proj` and `o_proj`. */
  readonly attentionBias: boolean
  /** `mlp_bias`: biases in `gate_proj`, `up_proj` and `down_proj`. */
  readonly mlpBias: boolean
  /** A position sees itself and `slidingWindow - 1` positions before it; undefined: all before it. */
  readonly slidingWindow: number | undefined
  /** `bos_token_id`; undefined: the model has none. */
  readonly bosTokenId: number | undefined
  /** `eos_token_id`: ids that end a text. */
  readonly eosTokenIds: readonly number[]
}

/**
 * Reads a Hugging Face `config.json` of the Llama family. Fields that Hugging Face lets out get its defaults.
 *
 * @param config the parsed JSON
 * @param where how errors name the file
 * @throws UnsupportedError for an architecture, activation or rotary scaling that the forward pass does not have
 * @throws CheckpointError for a missing or impossible field, naming it
 */
export function parseLlamaConfig(config: Record<string, unknown>, where: string): LlamaConfig {
  const modelType = parseModelType(config, where)
  const read = fieldReader(config, where)
  const mistral = modelType === 'mistral'
  const hiddenSize = read.count('hidden_size')
  const heads = read.count('num_attention_heads')
  const kvHeads = read.count('num_key_value_heads', mistral ? 8 : heads)
  if (heads % kvHeads !== 0) {
    read.fail('num_key_value_heads', kvHeads, `a divisor of num_attention_heads (${heads})`)
  }
  const maxPositions = read.count('max_position_embeddings', mistral ? 131072 : 2048)
  const rope = ropeSection(config, where)
  return {
    modelType,
    hiddenSize,
    intermediateSize: read.count('intermediate_size'),
    layers: read.count('num_hidden_layers'),
    heads,
    kvHeads,
    headDim: parseHeadDim(read, hiddenSize, heads),
    vocabSize: read.count('vocab_size'),
    maxPositions,
    rmsNormEps: read.positive('rms_norm_eps', 1e-6),
    ropeTheta: fieldReader({ rope_theta: rope.rope_theta ?? config.rope_theta }, where).positive(
      'rope_theta',
      10000,
    ),
    ropeScaling: parseRopeScaling(rope, maxPositions, where),
    tieWordEmbeddings: read.flag('tie_word_embeddings'),
    attentionBias: !mistral && read.flag('attention_bias'),
    mlpBias: !mistral && read.flag('mlp_bias'),
    slidingWindow: mistral ? parseSlidingWindow(config, read) : undefined,
    bosTokenId: read.tokenIds('bos_token_id')[0],
    eosTokenIds: read.tokenIds('eos_token_id'),
  }
}

function parseModelType(config: Record<string, unknown>, where: string): ModelType {
  const supported = `supported: ${supportedModelTypes.join(', ')}`
  const modelType = supportedModelTypes.find((type) => type === config.model_type)
  if (modelType === undefined) {
    const found = config.model_type === undefined ? 'no model_type' : `model_type ${show(config.model_type)}`
    throw new UnsupportedError(`${where}: ${found} is not an architecture this library can run; ${supported}`)
  }
  const architectures = Array.isArray(config.architectures) ? config.architectures : []
  const causal = `${modelType}forcausallm`
  if (architectures.length > 0 && !architectures.some((name) => String(name).toLowerCase() === causal)) {
    throw new UnsupportedError(
      `${where}: architectures ${show(architectures)} is not one this library can run; ` +
        'supported: LlamaForCausalLM, MistralForCausalLM',
    )
  }
  const activation = config.hidden_act ?? 'silu'
  if (activation !== 'silu' && activation !== 'swish') {
    throw new UnsupportedError(`${where}: hidden_act ${show(activation)} is not supported; supported: silu`)
  }
  return modelType
}

function parseHeadDim(read: FieldReader, hiddenSize: number, heads: number): number {
  const headDim = read.count('head_dim', hiddenSize / heads)
  if (headDim % 2 !== 0) read.fail('head_dim', headDim, 'an even number (rotary positions turn pairs)')
  return headDim
}

function parseSlidingWindow(config: Record<string, unknown>, read: FieldReader): number | undefined {
  return config.sliding_window === null ? undefined : read.count('sliding_window', 4096)
}

interface FieldReader {
  fail(name: string, found: unknown, expected: string): never
  count(name: string, fallback?: number): number
  positive(name: string, fallback?: number): number
  flag(name: string): boolean
  tokenIds(name: string): number[]
}

function fieldReader(config: Record<string, unknown>, where: string): FieldReader {
  const fail = (name: string, found: unknown, expected: string): never => {
    throw new CheckpointError(`${where}: ${name} is ${show(found)}; expected ${expected}`)
  }
  const value = (name: string, fallback: unknown) => config[name] ?? fallback
  return {
    fail,
    count: (name, fallback) => {
      const found = value(name, fallback)
      return isCount(found) && found > 0 ? found : fail(name, found, 'a positive whole number')
    },
    positive: (name, fallback) => {
      const found = value(name, fallback)
      return typeof found === 'number' && found > 0 && Number.isFinite(found)
        ? found
        : fail(name, found, 'a positive number')
    },
    flag: (name) => {
      const found = value(name, false)
      return typeof found === 'boolean' ? found : fail(name, found, 'true or false')
    },
    tokenIds: (name) => {
      const found = value(name, [])
      const ids: unknown[] = Array.isArray(found) ? found : [found]
      return ids.every(isCount) ? ids : fail(name, found, 'a token id, a list of them, or null')
    },
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function show(value: unknown): string {
  return value === undefined ? 'missing' : JSON.stringify(value)
}
