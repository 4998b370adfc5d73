import * as tf from '@tensorflow/tfjs-core'
import type { NormWeights } from '../ops.js'
import { differentiable } from './differentiable.js'
import { runsTensor } from './residence.js'

/**
 * Is given the gradient of the loss on a norm's scale and shift, of their lengths. It is called inside `tf.tidy`: the tensors
 * are gone afterwards.
 */
export type NormGradientListener = (
  weights: NormWeights,
  onScale: tf.Tensor1D,
  onShift: tf.Tensor1D | undefined,
) => void

/** See `Ops`. */
export function norm(x: tf.Tensor2D, weights: NormWeights, onGradient?: NormGradientListener): tf.Tensor2D {
  const { size, epsilon } = weights
  const scale = runsTensor(weights.scale, size)
  const shift = weights.shift && runsTensor(weights.shift, size)
  const runs: [number, number, number] = [-1, scale.shape[0], size]
  const isCentred = weights.kind === 'layer'
  return differentiable([x], () => {
    const values = tf.reshape<tf.Rank.R3>(x, runs)
    const centred = isCentred ? tf.sub(values, runMeans(values)) : values
    const inverse = tf.rsqrt(tf.add(runMeans(tf.square(centred)), epsilon))
    const normed = tf.mul(centred, inverse)
    const scaled = tf.mul(normed, scale)
    return {
      value: tf.reshape(shift === undefined ? scaled : tf.add(scaled, shift), x.shape),
      saved: [normed, inverse],
      // with n the normed values and g the gradient on them: (g - mean(g) - n mean(g n)) / deviation
      gradients: (up, [n, factor]) => {
        if (onGradient) {
          const each = tf.reshape(up, runs)
          const onShift = shift && tf.reshape<tf.Rank.R1>(tf.sum(each, 0), [-1])
          onGradient(weights, tf.reshape(tf.sum(tf.mul(each, n), 0), [-1]), onShift)
        }
        const onNormed = tf.mul(tf.reshape(up, runs), scale)
        const across = isCentred ? tf.sub(onNormed, runMeans(onNormed)) : onNormed
        const along = tf.mul(n, runMeans(tf.mul(onNormed, n)))
        return [tf.reshape(tf.mul(tf.sub(across, along), factor), up.shape)]
      },
    }
  })
}

function runMeans(x: tf.Tensor): tf.Tensor {
  return tf.mean(x, -1, true)
}
