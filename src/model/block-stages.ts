import * as tf from '@tensorflow/tfjs-core'
import { turnOfEventLoop } from '../event-loop.js'
import { type Matrix, matrix } from '../matrix.js'
import {
  afterDownProjection,
  afterOutputProjection,
  assertFiniteHidden,
  assertHiddenSize,
  attendOver,
  attentionInputs,
  gatedInput,
  type LlamaBlock,
  rmsNorm,
} from './block.js'
import { type LinearInputGroup, linearInputGroups } from './linears.js'
import { usesOwnKernels } from './ops/tensors/products.js'
import { takeFloats } from './ops/tensors/take-floats.js'
import {
  addProjected,
  attended,
  gated,
  type NewFloats,
  normedRows,
  resident,
  withFloats,
} from './own-block.js'

/**
 * A block taken one group of linear layers at a time, so that its layers can be changed on the way: between two groups
 * the tokens wait as arrays.
 */

/** Whole sequences in front of a group of linear layers; all arrays row-major, a row per token. */
export interface WaitingTokens {
  readonly sequences: number
  /** Tokens per sequence. */
  readonly length: number
  /** The residual stream, tokens x hiddenSize. */
  readonly hidden: Float32Array
  /** tokens x (heads * headDim): what attention gave, read in front of the output projection and written before it. */
  readonly attended: Float32Array
  /**
   * tokens x intermediateSize: the input of the last linear layer, read in front of it and written before it. Without
   * room for it, it is computed once more.
   */
  readonly gated?: Float32Array | undefined
}

/**
 * Is given the input of a group of linear layers, tokens x inFeatures, and where their output is added to a residual
 * stream that stream, tokens x hiddenSize. Their values may be overwritten afterwards.
 */
export type StageListener = (input: Matrix, residual: Matrix | undefined) => void

const [attentionGroup, outputGroup, feedForwardGroup, downGroup] = linearInputGroups

/** Shows `onInput` what the layers of `group` are given. */
export function visitStage(
  block: LlamaBlock,
  group: LinearInputGroup,
  tokens: WaitingTokens,
  onInput: StageListener,
): void {
  const rows = assertTokens(block, tokens)
  const rowsOf = (values: Float32Array) => matrix(rows, values.length / rows, values)
  if (group === outputGroup) onInput(rowsOf(tokens.attended), rowsOf(tokens.hidden))
  else if (group === downGroup && tokens.gated) onInput(rowsOf(tokens.gated), rowsOf(tokens.hidden))
  else if (usesOwnKernels()) {
    withFloats((floats) => {
      if (group === downGroup) onInput(rowsOf(gatedStream(floats, block, tokens)), rowsOf(tokens.hidden))
      else onInput(rowsOf(normedStream(floats, block, group, tokens)), undefined)
    })
  } else {
    tf.tidy(() => {
      const stream = residualStream(block, tokens)
      const values = (tensor: tf.Tensor2D) => rowsOf(tensor.dataSync<'float32'>())
      if (group === downGroup) onInput(values(gatedInput(block, stream)), rowsOf(tokens.hidden))
      else onInput(values(rmsNorm(stream, block[normOf(group)], block.config.rmsNormEps)), undefined)
    })
  }
}

/**
 * Takes the tokens past the layers of `group`: overwrites `attended`, `hidden` or `gated`.
 *
 * @throws NumericError when the block's output holds NaN or infinity
 */
export async function passStage(
  block: LlamaBlock,
  group: LinearInputGroup,
  tokens: WaitingTokens,
): Promise<void> {
  assertTokens(block, tokens)
  if (usesOwnKernels()) {
    await turnOfEventLoop()
    withFloats((floats) => passByKernels(floats, block, group, tokens))
  } else await passByTensors(block, group, tokens)
  if (group === downGroup) assertFiniteHidden(tokens.hidden, block, tokens.length)
}

function passByKernels(
  floats: NewFloats,
  block: LlamaBlock,
  group: LinearInputGroup,
  tokens: WaitingTokens,
): void {
  const { sequences, length, hidden } = tokens
  if (group === attentionGroup) {
    const input = normedStream(floats, block, group, tokens)
    tokens.attended.set(attended(floats, block, input, sequences, length))
  } else if (group === feedForwardGroup) {
    tokens.gated?.set(gatedStream(floats, block, tokens))
  } else {
    const stream = resident(floats, hidden)
    if (group === outputGroup) {
      addProjected(block, 'self_attn.o_proj', resident(floats, tokens.attended), stream)
    } else {
      const input = tokens.gated ? resident(floats, tokens.gated) : gatedStream(floats, block, tokens)
      addProjected(block, 'mlp.down_proj', input, stream)
    }
    hidden.set(stream)
  }
}

function normedStream(
  floats: NewFloats,
  block: LlamaBlock,
  group: LinearInputGroup,
  { hidden }: WaitingTokens,
): Float32Array {
  return normedRows(floats, resident(floats, hidden), block[normOf(group)], block.config.rmsNormEps)
}

function gatedStream(floats: NewFloats, block: LlamaBlock, tokens: WaitingTokens): Float32Array {
  return gated(floats, block, normedStream(floats, block, feedForwardGroup, tokens))
}

function normOf(group: LinearInputGroup): 'inputNorm' | 'attentionNorm' {
  return group === attentionGroup ? 'inputNorm' : 'attentionNorm'
}

async function passByTensors(
  block: LlamaBlock,
  group: LinearInputGroup,
  tokens: WaitingTokens,
): Promise<void> {
  if (group === attentionGroup) {
    tokens.attended.set(await takeFloats(tf.tidy(() => attend(block, tokens))))
  } else if (group === outputGroup) {
    const middle = tf.tidy(() =>
      afterOutputProjection(block, residualStream(block, tokens), attendedTensor(block, tokens)),
    )
    tokens.hidden.set(await takeFloats(middle))
  } else if (group === feedForwardGroup) {
    const { gated } = tokens
    gated?.set(await takeFloats(tf.tidy(() => gatedInput(block, residualStream(block, tokens)))))
  } else {
    const output = tf.tidy(() => {
      const middle = residualStream(block, tokens)
      return afterDownProjection(block, middle, gatedTensor(block, tokens) ?? gatedInput(block, middle))
    })
    tokens.hidden.set(await takeFloats(output))
  }
}

function attend(block: LlamaBlock, tokens: WaitingTokens): tf.Tensor2D {
  const { sequences, length } = tokens
  const { queries, keys, values } = attentionInputs(
    block,
    residualStream(block, tokens),
    sequences,
    length,
    0,
  )
  return attendOver(block.config, queries, keys, values)
}

/** Returns how many there are. */
function assertTokens(block: LlamaBlock, { hidden, sequences, length }: WaitingTokens): number {
  assertHiddenSize(block, hidden, sequences, length)
  return sequences * length
}

function residualStream(block: LlamaBlock, { hidden, sequences, length }: WaitingTokens): tf.Tensor2D {
  return tf.tensor2d(hidden, [sequences * length, block.config.hiddenSize])
}

function attendedTensor(block: LlamaBlock, { attended, sequences, length }: WaitingTokens): tf.Tensor2D {
  const { heads, headDim } = block.config
  return tf.tensor2d(attended, [sequences * length, heads * headDim])
}

function gatedTensor(
  block: LlamaBlock,
  { gated, sequences, length }: WaitingTokens,
): tf.Tensor2D | undefined {
  return gated && tf.tensor2d(gated, [sequences * length, block.config.intermediateSize])
}
