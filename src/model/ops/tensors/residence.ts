import * as tf from '@tensorflow/tfjs-core'
import { assertEngineHolds } from '../engine.js'
import type { LinearWeights, NormWeights } from '../ops.js'
import { expandedWeight } from '../weight-forms.js'

/** The tensors of weights, by the arrays that they were made of. */
const tensors = new WeakMap<object, tf.Tensor>()

function resident<T extends tf.Tensor>(values: object, make: () => T): T {
  const known = tensors.get(values)
  if (known !== undefined) return known as T
  const tensor = tf.keep(make())
  tensors.set(values, tensor)
  return tensor
}

/** The transposed weight, cols x rows: the engines multiply untransposed matrices fastest. */
export function transposedWeight(weights: LinearWeights): tf.Tensor2D {
  const { weight, rows, cols, kind } = weights
  return resident(weight, () => {
    assertEngineHolds(4 * rows * cols, kind)
    return tf.tidy(() => tf.transpose(tf.tensor2d(expandedWeight(weights), [rows, cols])))
  })
}

export function biasTensor(bias: Float32Array): tf.Tensor1D {
  return resident(bias, () => tf.tensor1d(bias))
}

/** Values that repeat along a row, a run of `size` of them after the other. */
export function runsTensor(values: Float32Array, size: number): tf.Tensor2D {
  return resident(values, () => tf.tensor2d(values, [values.length / size, size]))
}

/** Frees the tensors of these weights. */
export function releaseTensors(weights: LinearWeights | NormWeights): void {
  const arrays = 'weight' in weights ? [weights.weight, weights.bias] : [weights.scale, weights.shift]
  for (const array of arrays) {
    if (array === undefined) continue
    tensors.get(array)?.dispose()
    tensors.delete(array)
  }
}
