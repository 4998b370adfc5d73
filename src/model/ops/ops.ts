import type { Activation } from '../decoder/description.js'
import type { LinearWeight } from './weight-forms.js'

/** A linear layer's values: `y = x W^T + b`. */
export interface LinearWeights {
  /** Its name within its block. */
  readonly kind: string
  readonly rows: number
  readonly cols: number
  /** Dense or packed. */
  readonly weight: LinearWeight
  readonly bias: Float32Array | undefined
}

/** A norm's values. */
export interface NormWeights {
  readonly kind: 'rms' | 'layer'
  /** Values that are normed together; rows hold one such run or several. */
  readonly size: number
  readonly epsilon: number
  /** A whole number of runs long; repeats along a row. */
  readonly scale: Float32Array
  /** As long as `scale`. */
  readonly shift: Float32Array | undefined
}

/** Cosines and sines of rotary angles, each at least positions x dims; the second half of a row repeats the first. */
export interface RotaryTables {
  readonly dims: number
  readonly cos: Float32Array
  readonly sin: Float32Array
}

/** Rows of tokens: `sequences` of `length` consecutive tokens each, the first of them at `position`. */
export interface TokenRows {
  readonly sequences: number
  readonly length: number
  readonly position: number
}

/** The shape of attention, see `AttentionDescription`. */
export interface AttentionShape {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly scale: number
  readonly softCap: number | undefined
  readonly window: number | undefined
}

/**
 * How finely caches hold keys and values. `'int8'`: as codes of 8 bits, with a scale for each position and key-value head.
 */
export type CachePrecision = 'float32' | 'int8'

/** All of {@link CachePrecision}. */
export const cachePrecisions: readonly CachePrecision[] = ['float32', 'int8']

/** Keys and values of the positions from 0 on that some sequences have seen: the engine's own. */
export interface KeyValueCache {
  readonly sequences: number
  /** Positions there is room for. */
  readonly capacity: number
  /** Positions there are. */
  positions: number
}

/** Which tokens each expert gets, and with what weight. */
export interface Routes<T> {
  /** Of each expert, the rows of its tokens, rising. */
  readonly tokens: readonly Int32Array[]
  /** tokens x experts; 0 where an expert does not get the token. */
  readonly weights: T
}

/**
 * What a forward pass runs on: an engine's operations on matrices `T` with a row per token. None of them changes its
 * operands, and none of them reports NaN or infinity: these go through.
 */
export interface Ops<T> {
  /** A matrix of these values, row-major; copied where the engine needs them elsewhere. */
  upload(values: Float32Array, rows: number, cols: number): T
  /**
   * Rounded values in the place of `x`, of its shape. The gradient goes on to `x` as if they were its own (straight-through),
   * but not where it lies beyond the limits.
   */
  replace(x: T, values: Float32Array, limits?: readonly [low: number, high: number]): T
  shape(x: T): readonly [rows: number, cols: number]
  /** The values of a matrix, row-major. They may be overwritten after the current {@link tidy}. */
  read(x: T): Float32Array
  /** The values of a matrix as an array of its own, while other events get their turn. Frees the matrix. */
  take(x: T): Promise<Float32Array>
  /** Runs `use` and frees all matrices it made, except for those it returns, alone or within objects. */
  tidy<S>(use: () => S): S
  /** Frees matrices that no tidy will free. */
  free(...matrices: readonly T[]): void

  /** Prepares weights that will be used again and again, until {@link release}. Returns what to use in their place. */
  hold(weights: LinearWeights): LinearWeights
  /** Frees what the engine holds for these weights; they may be used again, at the cost of preparing them anew. */
  release(weights: LinearWeights | NormWeights): void

  /** tokens x rows of the weights. */
  linear(x: T, weights: LinearWeights): T
  norm(x: T, weights: NormWeights): T
  /** Columns `first` to `first + count - 1` of each of the runs of `width` columns that a row consists of. */
  columns(x: T, first: number, count: number, width: number): T
  /** Limits magnitudes. */
  clip(x: T, limit: number): T
  /** `x + factor y` */
  add(x: T, y: T, factor: number): T
  scale(x: T, factor: number): T
  /** `cap tanh(x / cap)` */
  softCap(x: T, cap: number): T
  /** `activation(x)` */
  activate(x: T, activation: Activation): T
  /** `activation(gate) * up` */
  gate(gate: T, up: T, activation: Activation): T
  /** `x sigmoid(logit)` row by row, for logits tokens x 1. */
  gateRows(x: T, logits: T): T

  /** Turns each head of each row by the angles of its position. */
  rotate(x: T, tokens: TokenRows, heads: number, tables: RotaryTables): T
  /**
   * Causal attention of queries (tokens x heads * headDim) over keys and values (tokens x kvHeads * headDim) of the same
   * tokens; with a cache over what it holds, to which those of the tokens are added first.
   *
   * @returns tokens x heads * headDim
   */
  attend(queries: T, keys: T, values: T, tokens: TokenRows, shape: AttentionShape, cache?: KeyValueCache): T
  /**
   * An empty cache.
   *
   * @param precision default `'float32'`
   * @throws UnsupportedError when the engine has no caches of that precision
   */
  openCache(
    sequences: number,
    capacity: number,
    shape: AttentionShape,
    precision?: CachePrecision,
  ): KeyValueCache
  /**
   * A new cache with the first `positions` positions of another one of the same shape and precision, and room for `capacity`; that
   * one stays as it is.
   */
  copyCache(cache: KeyValueCache, positions: number, capacity: number): KeyValueCache
  closeCache(cache: KeyValueCache): void

  /** The `active` experts with the highest logits (the first of equal ones) and their shares of the softmax over all. */
  route(logits: T, active: number, sumToOne: boolean): Routes<T>
  /** These rows of a matrix. */
  pick(x: T, tokens: Int32Array): T
  /** The rows of all these matrices, one behind the other. */
  stack(parts: readonly T[]): T
  /** `sum` with the rows of `x` added at the rows `tokens`, each times its weight for the expert. */
  mix(sum: T, x: T, routes: Routes<T>, expert: number): T
}
