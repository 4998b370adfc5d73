import * as tf from '@tensorflow/tfjs-core'
import { turnOfEventLoop } from '../event-loop.js'
import { type Matrix, matrix } from '../matrix.js'
import { assertFiniteHidden, assertHiddenSize, blockForward, type LlamaBlock } from './block.js'
import { type LinearInputGroup, linearInputGroups } from './linears.js'
import { usesOwnKernels } from './ops/tensors/products.js'
import { takeFloats } from './ops/tensors/take-floats.js'
import { addProjected, attended, gated, normedRows, resident, withFloats } from './own-block.js'

/**
 * Is given the input of each group of linear layers during a forward pass, tokens x inFeatures. Its values may be
 * overwritten afterwards.
 */
export type InputListener = (kinds: LinearInputGroup, input: Matrix) => void

/**
 * Runs a block over `batch` sequences of `length` tokens.
 *
 * @param hidden (batch * length) x hiddenSize, row-major
 * @returns the block's output, of the same shape
 * @throws NumericError when the output holds NaN or infinity, naming the block and the position
 */
export async function runBlock(
  block: LlamaBlock,
  hidden: Float32Array,
  batch: number,
  length: number,
  { onInput }: { readonly onInput?: InputListener } = {},
): Promise<Float32Array> {
  assertHiddenSize(block, hidden, batch, length)
  let output: Float32Array
  if (usesOwnKernels()) {
    await turnOfEventLoop()
    output = ownForward(block, hidden, batch, length, onInput)
  } else {
    const listen =
      onInput &&
      ((kinds: LinearInputGroup, input: tf.Tensor2D) =>
        onInput(kinds, matrix(...input.shape, input.dataSync<'float32'>())))
    const input = () => tf.tensor2d(hidden, [batch * length, block.config.hiddenSize])
    output = await takeFloats(tf.tidy(() => blockForward(block, input(), batch, length, listen)))
  }
  assertFiniteHidden(output, block, length)
  return output
}

/** The block by the kernels of this package. */
function ownForward(
  block: LlamaBlock,
  hidden: Float32Array,
  batch: number,
  length: number,
  onInput?: InputListener,
): Float32Array {
  const { rmsNormEps } = block.config
  const rows = batch * length
  const show = (turn: number, input: Float32Array) =>
    onInput?.(linearInputGroups[turn], matrix(rows, input.length / rows, input))
  return withFloats((floats) => {
    const stream = resident(floats, hidden)
    const first = normedRows(floats, stream, block.inputNorm, rmsNormEps)
    show(0, first)
    const mixed = attended(floats, block, first, batch, length)
    show(1, mixed)
    addProjected(block, 'self_attn.o_proj', mixed, stream)
    const second = normedRows(floats, stream, block.attentionNorm, rmsNormEps)
    show(2, second)
    const last = gated(floats, block, second)
    show(3, last)
    addProjected(block, 'mlp.down_proj', last, stream)
    return stream.slice()
  })
}
