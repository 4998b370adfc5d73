import * as tf from '@tensorflow/tfjs-core'
import type { Ops } from '../ops.js'
import { differentiable } from './differentiable.js'
import { type TensorHooks, tensorOps } from './tensor-ops.js'

/**
 * The gradient of `sum(upstream * f(x))` on `x`: the function is done, and then gone through backwards. All that it
 * makes is freed, but for what the engine remembers of weights.
 *
 * @param f made of the operations that it is given
 * @param input `x`, rows x cols, row-major
 * @param upstream the gradient on what `f` returns, of its shape
 * @returns rows x cols
 */
export function vectorJacobian(
  f: (ops: Ops<tf.Tensor2D>, x: tf.Tensor2D) => tf.Tensor2D,
  input: Float32Array,
  rows: number,
  cols: number,
  upstream: Float32Array,
  hooks?: TensorHooks,
): Float32Array {
  const ops = tensorOps(hooks)
  const backward = tf.grad((x) => asOneRow(f(ops, x as tf.Tensor2D)))
  try {
    const gradient = tf.tidy(() =>
      backward(tf.tensor2d(input, [rows, cols]), tf.tensor2d(upstream, [1, upstream.length])),
    )
    const values = gradient.dataSync<'float32'>()
    gradient.dispose()
    return values
  } catch (error) {
    freeTape()
    throw error
  }
}

function asOneRow(y: tf.Tensor2D): tf.Tensor2D {
  return differentiable([y], () => ({
    value: tf.reshape(y, [1, -1]),
    saved: [],
    gradients: (up) => [tf.reshape(up, y.shape)],
  }))
}

/** A gradient that fails halfway leaves what it had kept. */
function freeTape(): void {
  for (const { saved } of tf.engine().state.activeTape ?? []) tf.dispose(saved ?? [])
}
