import * as tf from '@tensorflow/tfjs-core'
import { type Matrix, matrix } from '../../../common/matrix.js'
import type { NormWeights, Ops } from '../ops.js'
import { differentiable } from './differentiable.js'
import { tensorOps } from './tensor-ops.js'

/**
 * Is given the input of a linear layer (tokens x in) and the gradient of the loss on its output (tokens x out); the
 * gradient on its weight is `outputGradient^T input`.
 */
export type LinearListener = (kind: string, input: Matrix, outputGradient: Matrix) => void

/** Is given the gradient of the loss on a norm's scale and shift, of their lengths. */
export type NormListener = (
  weights: NormWeights,
  onScale: Float32Array,
  onShift: Float32Array | undefined,
) => void

/**
 * The gradient of `sum(upstream * f(x))` on `x`: the function is done, and then gone through backwards. All that it
 * makes is freed, but for what the engine remembers of weights.
 *
 * @param f made of the operations that it is given
 * @param input `x`, rows x cols, row-major
 * @param upstream the gradient on what `f` returns, of its shape
 * @param onLinear called once for each linear layer that the gradient goes through
 * @param onNorm the same for norms
 * @returns rows x cols
 */
export function vectorJacobian(
  f: <T>(ops: Ops<T>, x: T) => T,
  input: Float32Array,
  rows: number,
  cols: number,
  upstream: Float32Array,
  onLinear?: LinearListener,
  onNorm?: NormListener,
): Float32Array {
  const ops = tensorOps({
    ...(onLinear && { onLinearGradient: reading(onLinear) }),
    ...(onNorm && {
      onNormGradient: (weights, onScale, onShift) =>
        onNorm(weights, onScale.dataSync<'float32'>(), onShift?.dataSync<'float32'>()),
    }),
  })
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

function reading(onLinear: LinearListener) {
  const values = (x: tf.Tensor2D) => matrix(x.shape[0], x.shape[1], x.dataSync<'float32'>())
  return (kind: string, input: tf.Tensor2D, gradient: tf.Tensor2D) =>
    onLinear(kind, values(input), values(gradient))
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
