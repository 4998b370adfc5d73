import * as tf from '@tensorflow/tfjs-core'
import { causalAttention } from './attention.js'
import {
  afterDownProjection,
  afterOutputProjection,
  assertFiniteHidden,
  assertHiddenSize,
  attentionInputs,
  gatedInput,
  type LlamaBlock,
  rmsNorm,
} from './block.js'
import { type LinearInputGroup, linearInputGroups } from './linears.js'
import { takeFloats } from './tensors.js'

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
}

/**
 * Is given the input of a group of linear layers, tokens x inFeatures, and where their output is added to a residual
 * stream that stream, tokens x hiddenSize. Called inside `tf.tidy`.
 */
export type StageListener = (input: tf.Tensor2D, residual: tf.Tensor2D | undefined) => void

/** Shows `onInput` what the layers of `group` are given. */
export function visitStage(
  block: LlamaBlock,
  group: LinearInputGroup,
  tokens: WaitingTokens,
  onInput: StageListener,
): void {
  const { rmsNormEps } = block.config
  tf.tidy(() => {
    const hidden = residualStream(block, tokens)
    if (group === linearInputGroups[0]) onInput(rmsNorm(hidden, block.inputNorm, rmsNormEps), undefined)
    else if (group === linearInputGroups[1]) onInput(attendedTensor(block, tokens), hidden)
    else if (group === linearInputGroups[2])
      onInput(rmsNorm(hidden, block.attentionNorm, rmsNormEps), undefined)
    else onInput(gatedInput(block, hidden), hidden)
  })
}

/**
 * Takes the tokens past the layers of `group`: overwrites `attended` or `hidden`.
 *
 * @throws NumericError when the block's output holds NaN or infinity
 */
export async function passStage(
  block: LlamaBlock,
  group: LinearInputGroup,
  tokens: WaitingTokens,
): Promise<void> {
  const { length } = tokens
  if (group === linearInputGroups[0]) {
    tokens.attended.set(await takeFloats(tf.tidy(() => attend(block, tokens))))
  } else if (group === linearInputGroups[1]) {
    const middle = tf.tidy(() =>
      afterOutputProjection(block, residualStream(block, tokens), attendedTensor(block, tokens)),
    )
    tokens.hidden.set(await takeFloats(middle))
  } else if (group === linearInputGroups[3]) {
    const output = tf.tidy(() => {
      const middle = residualStream(block, tokens)
      return afterDownProjection(block, middle, gatedInput(block, middle))
    })
    tokens.hidden.set(await takeFloats(output))
    assertFiniteHidden(tokens.hidden, block, length)
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
  return causalAttention(queries, keys, values, block.config.slidingWindow)
}

function residualStream(block: LlamaBlock, { hidden, sequences, length }: WaitingTokens): tf.Tensor2D {
  assertHiddenSize(block, hidden, sequences, length)
  return tf.tensor2d(hidden, [sequences * length, block.config.hiddenSize])
}

function attendedTensor(block: LlamaBlock, { attended, sequences, length }: WaitingTokens): tf.Tensor2D {
  const { heads, headDim } = block.config
  return tf.tensor2d(attended, [sequences * length, heads * headDim])
}
