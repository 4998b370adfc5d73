import type { KeyValueCache, Ops, Routes, TokenRows } from '../ops/ops.js'
import type { Block } from './block.js'
import type { LinearDescription } from './description.js'

/** What is under way in a block between two of its stages; a row per token. */
export interface BlockState<T> {
  /** The residual stream, tokens x hiddenSize. */
  readonly residual: T
  /** The input of a parallel block. */
  readonly entering?: T | undefined
  /** The input of the output projection, tokens x (heads * headDim). */
  readonly attended?: T | undefined
  /** The input of a down projection; where it is missing, it is computed once more. */
  readonly gated?: T | undefined
  /** What all experts read, tokens x hiddenSize. */
  readonly expertInput?: T | undefined
  /** The sum of what the experts so far gave, tokens x hiddenSize. */
  readonly mixture?: T | undefined
  readonly routes?: Routes<T> | undefined
}

/** Consecutive rows of a pass, and where their tokens stand. */
export interface Stretch {
  readonly tokens: TokenRows
  /** The length that the sequences have or will have: some rotary settings depend on it. */
  readonly span: number
  /** Keys and values of the positions before those of `tokens`. */
  readonly cache?: KeyValueCache | undefined
}

/** How many rows a stretch has. */
export function rowsOf({ tokens }: Stretch): number {
  return tokens.sequences * tokens.length
}

/** What a stage runs on. */
export interface BlockRun<T> {
  readonly ops: Ops<T>
  readonly block: Block
  /** All rows, one stretch behind the other; only attention tells them apart. */
  readonly stretches: readonly Stretch[]
}

/** What attention computes with; queries and keys turned to where their tokens stand. */
export interface AttentionOperands<T> {
  /** tokens x (heads * headDim). */
  readonly queries: T
  /** tokens x (kvHeads * headDim). */
  readonly keys: T
  /** As `keys`. */
  readonly values: T
}

export type AttentionPart = keyof AttentionOperands<unknown>

export const attentionParts: readonly AttentionPart[] = ['queries', 'keys', 'values']

/** Layers that share a Hessian. */
export interface HessianGroup {
  readonly linears: readonly LinearDescription[]
  /** What of attention they make; what a token counts for them can follow from that. */
  readonly makes: readonly AttentionPart[]
}

/** Part of a block: linear layers that read the same input, and what comes between it and the next such group. */
export interface Stage {
  /** The layers to quantize, in order. They read the same input. */
  readonly linears: readonly LinearDescription[]
  /** The same layers by what of attention they make; those of a group can share a Hessian. Default: one group of all. */
  readonly groups?: readonly HessianGroup[]
  /** All layers that must be in memory. */
  readonly uses: readonly LinearDescription[]
  /**
   * What the outputs of `linears` are multiplied by before they are added to the residual stream; undefined: they do not
   * reach it as they are.
   */
  readonly residualScale?: number
  /** The expert that `linears` belong to: their input has rows for its tokens only. */
  readonly expert?: number
  /** The fields of the state that it reads, replaces or drops; default: all. */
  readonly reads?: readonly (keyof BlockState<unknown>)[]
  /** Whether there is nothing to do, since an expert gets no token; default: there always is. */
  skips?(state: BlockState<unknown>): boolean
  /** What attention makes of the input of its projections; undefined: they are not in this stage. */
  operands?<T>(run: BlockRun<T>, input: T): AttentionOperands<T>
  /** What `linears` read. */
  input<T>(run: BlockRun<T>, state: BlockState<T>): T
  /** The state behind the stage. */
  advance<T>(run: BlockRun<T>, state: BlockState<T>, input: T): BlockState<T>
}
