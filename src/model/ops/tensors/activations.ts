import * as tf from '@tensorflow/tfjs-core'
import type { Activation } from '../../decoder/description.js'
import { differentiable } from './differentiable.js'

interface ActivationFunction {
  value(x: tf.Tensor2D): tf.Tensor2D
  slope(x: tf.Tensor2D): tf.Tensor2D
}

const functions: Record<Activation, ActivationFunction> = {
  silu: {
    value: (x) => tf.mul(x, tf.sigmoid(x)),
    slope: (x) => {
      const s = tf.sigmoid(x)
      return tf.mul(s, tf.add(1, tf.mul(x, tf.sub(1, s))))
    },
  },
  // x P(X < x) for a standard normal X
  gelu: {
    value: (x) => tf.mul(x, normalShare(x)),
    slope: (x) => {
      const density = tf.mul(tf.exp(tf.mul(tf.square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI))
      return tf.add(normalShare(x), tf.mul(x, density))
    },
  },
  'gelu-tanh': {
    value: (x) => tf.mul(x, tanhShare(x)),
    slope: (x) => {
      const share = tanhShare(x)
      // of (1 + tanh(z)) / 2 the slope is 2 share (1 - share) z'
      const inner = tf.mul(tf.add(tf.mul(tf.square(x), 3 * cubic), 1), 2 * root)
      return tf.add(share, tf.mul(tf.mul(x, inner), tf.mul(share, tf.sub(1, share))))
    },
  },
  relu: {
    value: (x) => tf.relu(x),
    slope: (x) => tf.step(x),
  },
}

function normalShare(x: tf.Tensor2D): tf.Tensor2D {
  return tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5)
}

const root = Math.sqrt(2 / Math.PI)
const cubic = 0.044715

/** `(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2` */
function tanhShare(x: tf.Tensor2D): tf.Tensor2D {
  const inner = tf.mul(x, tf.mul(tf.add(tf.mul(tf.square(x), cubic), 1), root))
  return tf.mul(tf.add(tf.tanh(inner), 1), 0.5)
}

/** See `Ops`. */
export function activate(x: tf.Tensor2D, activation: Activation): tf.Tensor2D {
  const { value, slope } = functions[activation]
  return differentiable([x], () => ({
    value: value(x),
    saved: [x],
    gradients: (up, [input]) => [tf.mul(up, slope(input))],
  }))
}

/** See `Ops`. */
export function gate(gates: tf.Tensor2D, up: tf.Tensor2D, activation: Activation): tf.Tensor2D {
  const { value, slope } = functions[activation]
  return differentiable([gates, up], () => ({
    value: tf.mul<tf.Tensor2D>(value(gates), up),
    saved: [gates, up],
    gradients: (onGated, [g, u]) => [tf.mul(tf.mul(onGated, u), slope(g)), tf.mul(onGated, value(g))],
  }))
}
