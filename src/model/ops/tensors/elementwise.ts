import * as tf from '@tensorflow/tfjs-core'
import { differentiable } from './differentiable.js'

/** These functions: see `Ops`. */

export function columns(x: tf.Tensor2D, first: number, count: number, width: number): tf.Tensor2D {
  const runs: [number, number] = [x.size / width, width]
  return differentiable([x], () => ({
    value: tf.reshape(tf.slice2d(tf.reshape(x, runs), [0, first], [runs[0], count]), [x.shape[0], -1]),
    saved: [],
    gradients: (up) => {
      const among = tf.pad2d(tf.reshape(up, [runs[0], count]), [
        [0, 0],
        [first, width - first - count],
      ])
      return [tf.reshape(among, x.shape)]
    },
  }))
}

export function clip(x: tf.Tensor2D, limit: number): tf.Tensor2D {
  // clipByValue would turn NaN into a limit on the wasm engine
  return differentiable([x], () => ({
    value: tf.minimum<tf.Tensor2D>(tf.maximum(x, -limit), limit),
    saved: [x],
    gradients: (up, [input]) => [tf.mul(up, tf.cast(tf.lessEqual(tf.abs(input), limit), 'float32'))],
  }))
}

export function replace(
  x: tf.Tensor2D,
  values: Float32Array,
  limits?: readonly [low: number, high: number],
): tf.Tensor2D {
  return differentiable([x], () => ({
    value: tf.tensor2d(values, x.shape),
    saved: limits ? [x] : [],
    gradients: (up, [input]: tf.Tensor2D[]) => {
      if (limits === undefined) return [tf.clone(up)]
      const within = tf.logicalAnd(tf.greaterEqual(input, limits[0]), tf.lessEqual(input, limits[1]))
      return [tf.mul(up, tf.cast(within, 'float32'))]
    },
  }))
}

export function add(x: tf.Tensor2D, y: tf.Tensor2D, factor: number): tf.Tensor2D {
  return differentiable([x, y], () => ({
    value: tf.add(x, times(y, factor)),
    saved: [],
    gradients: (up) => [tf.clone(up), times(up, factor)],
  }))
}

export function scale(x: tf.Tensor2D, factor: number): tf.Tensor2D {
  return differentiable([x], () => ({
    value: times(x, factor),
    saved: [],
    gradients: (up) => [times(up, factor)],
  }))
}

/** A tensor of its own, whatever the factor. */
function times(x: tf.Tensor2D, factor: number): tf.Tensor2D {
  return factor === 1 ? tf.clone(x) : tf.mul(x, factor)
}

export function softCap(x: tf.Tensor2D, cap: number): tf.Tensor2D {
  return differentiable([x], () => {
    const turned = tf.tanh(tf.div(x, cap))
    return {
      value: tf.mul<tf.Tensor2D>(turned, cap),
      saved: [turned],
      gradients: (up, [tanh]) => [tf.mul(up, tf.sub(1, tf.square(tanh)))],
    }
  })
}

export function gateRows(x: tf.Tensor2D, logits: tf.Tensor2D): tf.Tensor2D {
  return differentiable([x, logits], () => {
    const open = tf.sigmoid(logits)
    return {
      value: tf.mul<tf.Tensor2D>(x, open),
      saved: [x, open],
      gradients: (up, [input, gate]) => {
        const onGate = tf.sum<tf.Tensor2D>(tf.mul(up, input), 1, true)
        return [tf.mul(up, gate), tf.mul(onGate, tf.mul(gate, tf.sub(1, gate)))]
      },
    }
  })
}
