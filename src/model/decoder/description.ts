/**
 * What the forward pass needs to know of a model, as plain data: a family (`families/`) makes it of a `config.json`. All
 * sizes are counts of values, not bytes.
 */
export interface DecoderDescription {
  /** `model_type`, e.g. `'qwen3'`. */
  readonly family: string
  /** Width of the residual stream. */
  readonly hiddenSize: number
  /** Token ids are less than this. */
  readonly vocabSize: number
  /** The longest sequence the model was made for, in tokens. */
  readonly maxPositions: number
  /** The token that a text begins with; undefined: the model has none. */
  readonly bosTokenId: number | undefined
  /** The token that all text is to begin with, windows out of its middle too; left out where a model does without. */
  readonly firstToken?: number
  /** Tokens that end a text. */
  readonly eosTokenIds: readonly number[]
  /** How tokens become hidden states. */
  readonly embedding: EmbeddingDescription
  /** In the order of the forward pass. */
  readonly blocks: readonly BlockDescription[]
  /** Between the last block and the head. */
  readonly finalNorm: NormDescription
  /** How hidden states become logits. */
  readonly head: HeadDescription
}

/** The input embedding, vocabSize x hiddenSize. */
export interface EmbeddingDescription {
  /** Name of the tensor. */
  readonly tensor: string
  /** What its rows are multiplied by. */
  readonly scale: number
}

/** The output projection, vocabSize x hiddenSize. */
export interface HeadDescription {
  /** Name of the tensor; that of the embedding where the two are tied. */
  readonly tensor: string
  /** What logits are multiplied by. */
  readonly scale: number
  /** Logits become `cap tanh(logit / cap)`. */
  readonly softCap?: number
}

/** One block: attention and a feed-forward part, each added to the residual stream. */
export interface BlockDescription {
  /** Counted from 0. */
  readonly index: number
  /** What the names of its tensors begin with, e.g. `'model.layers.3.'`. */
  readonly prefix: string
  /** Each is left out where the family has none there. */
  readonly norms: {
    /** Of the residual stream, in front of attention. */
    readonly attentionInput?: NormDescription
    /** Of what attention adds to the residual stream. */
    readonly attentionOutput?: NormDescription
    /** Of the residual stream, in front of the feed-forward part. A parallel block without it shares the first norm. */
    readonly feedForwardInput?: NormDescription
    /** Of what the feed-forward part adds to the residual stream. */
    readonly feedForwardOutput?: NormDescription
  }
  /** The first part. */
  readonly attention: AttentionDescription
  /** The second part. */
  readonly feedForward: FeedForwardDescription
  /** Both parts read the block's input, rather than the second the sum of it and the first. */
  readonly parallel: boolean
  /** What both parts are multiplied by before they are added. */
  readonly residualScale: number
}

/** A norm over runs of `size` values. */
export interface NormDescription {
  /** `'rms'`: `x / sqrt(mean(x^2) + epsilon)`; `'layer'`: the same after the mean was subtracted. */
  readonly kind: 'rms' | 'layer'
  /** Values that are normed together. */
  readonly size: number
  /** Added to the mean square. */
  readonly epsilon: number
  /**
   * Tensors of `size` values each that the normed values are multiplied by: one for all runs of a row, or one for each.
   * Empty: none.
   */
  readonly weights: readonly string[]
  /** Tensors of `size` values each that are added afterwards, as many as weights, or none. */
  readonly biases: readonly string[]
  /** What is added to the weights: 0, or 1 where a checkpoint stores their distance from 1. */
  readonly offset: 0 | 1
}

/** A linear layer, whose weight is rows (outputs) x cols (inputs). */
export interface LinearDescription {
  /** Its name within its block, e.g. `'self_attn.q_proj'`. */
  readonly kind: string
  /** Its name in the checkpoint, e.g. `'model.layers.0.self_attn.q_proj'`; tensors are `.weight` and `.bias` of it. */
  readonly module: string
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** Whether there is a bias. */
  readonly bias: boolean
}

/** Attention with its projections. */
export interface AttentionDescription {
  /** Heads of queries. */
  readonly heads: number
  /** Divides `heads`: query head `h` reads key-value head `floor(h * kvHeads / heads)`. */
  readonly kvHeads: number
  /** Values of a query, key or value of one head. */
  readonly headDim: number
  /** What scores are multiplied by. */
  readonly scale: number
  /** Scores become `cap tanh(score / cap)`. */
  readonly softCap?: number
  /** A position sees itself and the `window - 1` positions before it; undefined: all before it. */
  readonly window?: number
  /** Undefined: queries and keys do not know their positions. */
  readonly rotary?: RotaryDescription
  /** Where queries, keys and values come from. */
  readonly projections: AttentionProjections
  /** Queries, keys (after their norms) and values are limited to this magnitude. */
  readonly clip?: number
  /** Of queries and keys before they are turned: over `headDim` values, or over those of all heads. */
  readonly queryNorm?: NormDescription
  /** The same of keys. */
  readonly keyNorm?: NormDescription
  /** Of what all heads give. */
  readonly output: LinearDescription
}

/** Where queries, keys and values come from. */
export type AttentionProjections =
  | {
      /** A layer each. */
      readonly kind: 'separate'
      /** (heads * headDim) x hiddenSize. */
      readonly queries: LinearDescription
      /** (kvHeads * headDim) x hiddenSize. */
      readonly keys: LinearDescription
      /** Of the shape of `keys`. */
      readonly values: LinearDescription
    }
  | {
      /** One layer. */
      readonly kind: 'fused'
      /** The rows of all three. */
      readonly all: LinearDescription
      /** `'parts'`: all queries, then all keys, then all values; `'heads'`: head by head its query, key and value. */
      readonly order: 'parts' | 'heads'
    }

/** What a feed-forward part does between its products. */
export type Activation = 'silu' | 'gelu' | 'gelu-tanh' | 'relu'

/** `down(activation(gate(x)) * up(x))`, or without a gate `down(activation(up(x)))`. */
export type DenseFeedForward =
  | {
      /** Three layers. */
      readonly kind: 'gated'
      /** Of the gate's output. */
      readonly activation: Activation
      /** width x hiddenSize. */
      readonly gate: LinearDescription
      /** width x hiddenSize. */
      readonly up: LinearDescription
      /** hiddenSize x width. */
      readonly down: LinearDescription
    }
  | {
      /** Gate and `up` in one layer. */
      readonly kind: 'fused'
      /** Of the gate's output. */
      readonly activation: Activation
      /** The gate's rows, then those of `up`. */
      readonly gateUp: LinearDescription
      /** hiddenSize x width. */
      readonly down: LinearDescription
    }
  | {
      /** No gate. */
      readonly kind: 'plain'
      /** Of what `up` gives. */
      readonly activation: Activation
      /** width x hiddenSize. */
      readonly up: LinearDescription
      /** hiddenSize x width. */
      readonly down: LinearDescription
    }

/** A mixture of experts: each token goes through the few that a router scores highest. */
export interface RoutedFeedForward {
  /** Tells it from a dense part. */
  readonly kind: 'routed'
  /** Scores of the experts; stays in full precision. */
  readonly router: LinearDescription
  /** In the order of the router's rows. */
  readonly experts: readonly DenseFeedForward[]
  /** Experts per token. */
  readonly active: number
  /** Whether the weights of a token's experts, their shares of the softmax over all, are divided by their sum. */
  readonly sumToOne: boolean
  /** An expert of all tokens. */
  readonly shared?: {
    /** What it does. */
    readonly feedForward: DenseFeedForward
    /** One output: its sigmoid is what the shared expert is multiplied by; stays in full precision. */
    readonly gate?: LinearDescription
  }
}

/** The second part of a block. */
export type FeedForwardDescription = DenseFeedForward | RoutedFeedForward

/** Rotary positions of the first `dims` values of a head; value `i` is paired with value `i + dims / 2`. */
export interface RotaryDescription {
  /** Even, at most `headDim`. */
  readonly dims: number
  /** Base of the frequencies. */
  readonly theta: number
  /** How they are stretched. */
  readonly scaling: RotaryScaling
}

/** How rotary frequencies are stretched for contexts longer than those of the first training. */
export type RotaryScaling =
  | {
      /** Not at all. */
      readonly kind: 'default'
    }
  | {
      /** All alike. */
      readonly kind: 'linear'
      /** By how much. */
      readonly factor: number
    }
  | {
      /** The base grows with the sequence's length once that exceeds the original one. */
      readonly kind: 'dynamic'
      /** How fast it grows. */
      readonly factor: number
      /** The original length, in tokens. */
      readonly originalMaxPositions: number
    }
  | {
      /** Low frequencies are stretched, high ones not, those between in part (Llama 3.1). */
      readonly kind: 'llama3'
      /** By how much, at most. */
      readonly factor: number
      /** Frequencies that turn fewer times than this over the original length are low. */
      readonly lowFreqFactor: number
      /** Frequencies that turn more times than this over the original length are high. */
      readonly highFreqFactor: number
      /** The original length, in tokens. */
      readonly originalMaxPositions: number
    }
  | {
      /** A ramp between stretched and kept frequencies, and hotter attention (Peng et al. 2023, arXiv 2309.00071). */
      readonly kind: 'yarn'
      /** By how much, at most. */
      readonly factor: number
      /** Turns over the original length above which a frequency is kept. */
      readonly betaFast: number
      /** Turns over the original length below which a frequency is stretched. */
      readonly betaSlow: number
      /** Whether the ends of the ramp are rounded to whole dimensions. */
      readonly truncate: boolean
      /** The original length, in tokens. */
      readonly originalMaxPositions: number
      /** What cosines and sines are multiplied by. */
      readonly attentionFactor: number
    }
  | {
      /** A factor for each frequency, one list for sequences within the original length, one for longer ones. */
      readonly kind: 'longrope'
      /** For sequences within the original length, dims / 2. */
      readonly shortFactors: readonly number[]
      /** For longer sequences, dims / 2. */
      readonly longFactors: readonly number[]
      /** The original length, in tokens. */
      readonly originalMaxPositions: number
      /** What cosines and sines are multiplied by. */
      readonly attentionFactor: number
    }
