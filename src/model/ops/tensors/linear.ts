import * as tf from '@tensorflow/tfjs-core'
import type { LinearWeights } from '../ops.js'
import { differentiable } from './differentiable.js'
import { biasTensor, transposedWeight } from './residence.js'

/**
 * Is given the input of a linear layer (tokens x in) and the gradient of the loss on its output (tokens x out); the
 * gradient on its weight is `outputGradient^T input`. It is called inside `tf.tidy`: the tensors are gone afterwards,
 * and so is what is computed from them, unless kept or read.
 */
export type LinearGradientListener = (kind: string, input: tf.Tensor2D, outputGradient: tf.Tensor2D) => void

/** See `Ops`. */
export function linear(
  x: tf.Tensor2D,
  weights: LinearWeights,
  onGradient?: LinearGradientListener,
): tf.Tensor2D {
  const weight = transposedWeight(weights)
  const bias = weights.bias && biasTensor(weights.bias)
  return differentiable([x], () => {
    const product = tf.matMul<tf.Tensor2D>(x, weight)
    return {
      value: bias === undefined ? product : tf.add<tf.Tensor2D>(product, bias),
      saved: onGradient === undefined ? [] : [x],
      gradients: (up, [input]: tf.Tensor2D[]) => {
        tf.tidy(() => onGradient?.(weights.kind, input, up))
        return [tf.matMul(up, weight, false, true)]
      },
    }
  })
}
