import type {
  Activation,
  AttentionDescription,
  BlockDescription,
  DecoderDescription,
  DenseFeedForward,
  LinearDescription,
  NormDescription,
} from '../../decoder/description.js'
import type { ConfigReader } from './read-config.js'

/** One family: what `model_type` and `architectures` call it, and how its configuration is read. */
export interface Family {
  /** `model_type`. */
  readonly name: string
  /** The entry of `architectures`. */
  readonly architecture: string
  describe(read: ConfigReader): DecoderDescription
}

/** Sizes that all families have. */
export interface Sizes {
  readonly hiddenSize: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly maxPositions: number
}

/** What stands in for sizes that a file leaves out. */
export interface SizeDefaults {
  readonly maxPositions: number
  /** Left out: as many as heads. */
  readonly kvHeads?: number
  /** Left out: hidden size over heads. */
  readonly headDim?: number
  /** Heads are of hidden size over heads values, whatever the file says. */
  readonly fixedHeadDim?: true
  /** There are as many key-value heads as heads, whatever the file says. */
  readonly fixedKvHeads?: true
}

/** More than any model has: a damaged file must not fill the memory with descriptions of blocks. */
const MOST_LAYERS = 2 ** 12

/** Reads the sizes of a model; key-value heads of null are as many as heads. */
export function readSizes(read: ConfigReader, defaults: SizeDefaults): Sizes {
  const hiddenSize = read.count('hidden_size')
  const heads = read.count('num_attention_heads')
  if (defaults.fixedHeadDim) read.only('head_dim', [hiddenSize / heads])
  if (defaults.fixedKvHeads) read.only('num_key_value_heads', [heads])
  const missing = read.value('num_key_value_heads') === undefined
  const kvHeads = read.count('num_key_value_heads', missing ? (defaults.kvHeads ?? heads) : heads)
  if (heads % kvHeads !== 0) {
    read.fail('num_key_value_heads', kvHeads, `a divisor of num_attention_heads (${heads})`)
  }
  const headDim = read.count('head_dim', defaults.headDim ?? hiddenSize / heads)
  const layers = read.count('num_hidden_layers')
  if (layers > MOST_LAYERS) read.fail('num_hidden_layers', layers, `at most ${MOST_LAYERS} layers`)
  return {
    hiddenSize,
    heads,
    kvHeads,
    headDim,
    layers,
    maxPositions: read.count('max_position_embeddings', defaults.maxPositions),
  }
}

/** What a family says of a block; left out: one part after the other, added as they are. */
export type BlockParts = Pick<BlockDescription, 'norms' | 'attention' | 'feedForward'> &
  Partial<Pick<BlockDescription, 'parallel' | 'residualScale'>>

/** What a family says of a whole decoder; the rest is read here. */
export interface DecoderParts {
  readonly sizes: Sizes
  /** Default of `bos_token_id`. */
  readonly bos: number | undefined
  /** Predicts nothing of use without BOS in front; left out: does. */
  readonly needsBos?: true
  /** Default of `eos_token_id`. */
  readonly eos: number | undefined
  /** Default of `tie_word_embeddings`. */
  readonly tied: boolean
  /** 1 when left out. */
  readonly embeddingScale?: number
  /** 1 when left out. */
  readonly logitScale?: number
  readonly logitCap?: number | undefined
  readonly finalNorm: NormDescription
  block(index: number, prefix: string): BlockParts
  /** Names that most families share when left out. */
  readonly names?: { readonly embedding: string; readonly layers: string; readonly head: string }
}

const usualNames = { embedding: 'model.embed_tokens.weight', layers: 'model.layers.', head: 'lm_head.weight' }

/** Puts a decoder together. */
export function decoder(read: ConfigReader, parts: DecoderParts): DecoderDescription {
  const { sizes, names = usualNames } = parts
  const vocabSize = read.count('vocab_size')
  // a default that the vocabulary does not hold is not that of this model
  const known = (id: number | undefined) => (id !== undefined && id < vocabSize ? [id] : [])
  const [bosTokenId] = read.tokenIds('bos_token_id', known(parts.bos))
  return {
    family: read.family,
    hiddenSize: sizes.hiddenSize,
    vocabSize,
    maxPositions: sizes.maxPositions,
    bosTokenId,
    ...(parts.needsBos && bosTokenId !== undefined && { firstToken: bosTokenId }),
    eosTokenIds: read.tokenIds('eos_token_id', known(parts.eos)),
    embedding: { tensor: names.embedding, scale: parts.embeddingScale ?? 1 },
    blocks: Array.from({ length: sizes.layers }, (_, index) => {
      const prefix = `${names.layers}${index}.`
      return { index, prefix, parallel: false, residualScale: 1, ...parts.block(index, prefix) }
    }),
    finalNorm: parts.finalNorm,
    head: {
      tensor: read.flag('tie_word_embeddings', parts.tied) ? names.embedding : names.head,
      scale: parts.logitScale ?? 1,
      ...(parts.logitCap !== undefined && { softCap: parts.logitCap }),
    },
  }
}

/** A linear layer of a block. */
export function linear(
  prefix: string,
  kind: string,
  [rows, cols]: readonly [rows: number, cols: number],
  bias = false,
): LinearDescription {
  return { kind, module: prefix + kind, rows, cols, bias }
}

/** RMS norm with the weights `<name>.weight`. */
export function rmsNorm(name: string, size: number, epsilon: number, offset: 0 | 1 = 0): NormDescription {
  return { kind: 'rms', size, epsilon, weights: [`${name}.weight`], biases: [], offset }
}

/** LayerNorm with the weights `<name>.weight` and, unless told otherwise, the biases `<name>.bias`. */
export function layerNorm(name: string, size: number, epsilon: number): NormDescription {
  const biases = [`${name}.bias`]
  return { kind: 'layer', size, epsilon, weights: [`${name}.weight`], biases, offset: 0 }
}

/** RMS norms with the weights of these names, all of the residual stream. */
export function residualNorms(
  prefix: string,
  names: Readonly<Partial<Record<keyof BlockDescription['norms'], string>>>,
  norm: (name: string) => NormDescription,
): BlockDescription['norms'] {
  return Object.fromEntries(Object.entries(names).map(([place, name]) => [place, norm(prefix + name)]))
}

/** Where the norms of most families are: in front of attention and in front of the feed-forward part. */
export const normsBefore = {
  attentionInput: 'input_layernorm',
  feedForwardInput: 'post_attention_layernorm',
} as const

/** Behind each part. */
export const normsAfter = {
  attentionOutput: 'post_attention_layernorm',
  feedForwardOutput: 'post_feedforward_layernorm',
} as const

/** In front of each part and behind it. */
export const normsAround = {
  attentionInput: 'input_layernorm',
  attentionOutput: 'post_attention_layernorm',
  feedForwardInput: 'pre_feedforward_layernorm',
  feedForwardOutput: 'post_feedforward_layernorm',
} as const

/** What a family says of attention. */
export type AttentionParts = Pick<
  AttentionDescription,
  'softCap' | 'window' | 'rotary' | 'clip' | 'queryNorm' | 'keyNorm'
> & {
  /** `1 / sqrt(headDim)` when left out, as in "Attention Is All You Need". */
  readonly scale?: number
  /** Whether queries, keys and values have biases. */
  readonly bias: boolean
  /** Whether the output has biases. */
  readonly outputBias: boolean
}

/** Attention with `self_attn.q_proj`, `.k_proj`, `.v_proj` and `.o_proj`. */
export function attention(prefix: string, sizes: Sizes, parts: AttentionParts): AttentionDescription {
  const { hiddenSize, heads, kvHeads, headDim } = sizes
  const { bias, outputBias, ...others } = parts
  const keys = kvHeads * headDim
  return {
    heads,
    kvHeads,
    headDim,
    scale: 1 / Math.sqrt(headDim),
    ...others,
    projections: {
      kind: 'separate',
      queries: linear(prefix, 'self_attn.q_proj', [heads * headDim, hiddenSize], bias),
      keys: linear(prefix, 'self_attn.k_proj', [keys, hiddenSize], bias),
      values: linear(prefix, 'self_attn.v_proj', [keys, hiddenSize], bias),
    },
    output: linear(prefix, 'self_attn.o_proj', [hiddenSize, heads * headDim], outputBias),
  }
}

/** `gate_proj`, `up_proj` and `down_proj` of the part `name` of a block. */
export function gatedFeedForward(
  prefix: string,
  name: string,
  hiddenSize: number,
  width: number,
  activation: Activation,
  bias = false,
): DenseFeedForward {
  return {
    kind: 'gated',
    activation,
    gate: linear(prefix, `${name}.gate_proj`, [width, hiddenSize], bias),
    up: linear(prefix, `${name}.up_proj`, [width, hiddenSize], bias),
    down: linear(prefix, `${name}.down_proj`, [hiddenSize, width], bias),
  }
}
