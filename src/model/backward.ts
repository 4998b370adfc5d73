import * as tf from '@tensorflow/tfjs-core'
import { NumericError } from '../errors.js'
import { assertHiddenSize, blockForward, type LlamaBlock } from './block.js'
import { registerGradients } from './gradients.js'
import type { LinearKind } from './linears.js'

/**
 * Is given the input of a linear layer (tokens x in) and the gradient of the loss on its output (tokens x out); the
 * gradient on its weight is `outputGradient^T input`. It is called inside `tf.tidy`: the tensors are gone afterwards,
 * and so is what is computed from them, unless kept or read.
 */
export type LinearGradientListener = (
  kind: LinearKind,
  input: tf.Tensor2D,
  outputGradient: tf.Tensor2D,
) => void

/**
 * The backward pass of a block: from the gradient of a loss on its output to that on its input. Its forward pass is
 * done once more, so that between the two passes of a model only the inputs of its blocks need be kept.
 *
 * @param hidden the block's input, (batch * length) x hiddenSize, row-major
 * @param outputGradient of the same shape
 * @param onLinear called once for each of the block's linear layers
 * @returns the gradient on `hidden`, of the same shape
 * @throws ShapeError when an array is of another size
 * @throws NumericError when the gradient holds NaN or infinity, naming the block
 */
export function backwardBlock(
  block: LlamaBlock,
  hidden: Float32Array,
  outputGradient: Float32Array,
  batch: number,
  length: number,
  onLinear?: LinearGradientListener,
): Float32Array {
  assertHiddenSize(block, hidden, batch, length)
  assertHiddenSize(block, outputGradient, batch, length)
  registerGradients()
  const observed = { ...block, multiply: observedProducts(block, onLinear) }
  const shape: [number, number] = [batch * length, block.config.hiddenSize]
  const gradient = tf.tidy(() => {
    const forward = tf.grad((input) => blockForward(observed, input as tf.Tensor2D, batch, length))
    return forward(tf.tensor2d(hidden, shape), tf.tensor2d(outputGradient, shape))
  })
  const values = gradient.dataSync<'float32'>()
  gradient.dispose()
  assertFiniteGradient(values, block)
  return values
}

function observedProducts(block: LlamaBlock, onLinear?: LinearGradientListener) {
  return (kind: LinearKind, input: tf.Tensor2D): tf.Tensor2D => {
    const weight = block.weights[kind]
    const product = tf.customGrad((...args) => {
      const [x, save] = args as [tf.Tensor2D, tf.GradSaveFunc]
      save(onLinear === undefined ? [] : [x])
      return {
        value: tf.matMul(x, weight),
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
          tf.tidy(() => onLinear?.(kind, saved[0] as tf.Tensor2D, dy as tf.Tensor2D))
          return tf.matMul(dy as tf.Tensor2D, weight, false, true)
        },
      }
    })
    return product(input) as tf.Tensor2D
  }
}

function assertFiniteGradient(gradient: Float32Array, { index }: LlamaBlock): void {
  const at = gradient.findIndex((value) => value * 0 !== 0)
  if (at < 0) return
  throw new NumericError(
    `block ${index}: the gradient on its input is ${gradient[at]}; expected finite numbers. The activations or the ` +
      'gradient on its output overflow float32',
  )
}
