import * as tf from '@tensorflow/tfjs-core'

/** An operation that was done, and what its gradient needs. */
export interface Done<S extends readonly tf.Tensor[]> {
  readonly value: tf.Tensor2D
  /** Is kept while gradients are asked for. */
  readonly saved: readonly [...S]
  /**
   * @param up the gradient on `value`
   * @returns the gradient on each input: no two of them the same tensor, and none of them `up`
   */
  readonly gradients: (up: tf.Tensor2D, saved: S) => tf.Tensor2D[]
}

/**
 * Does an operation that brings its own gradient; tfjs-core has none where it runs in Node. What else `act` makes is
 * freed.
 */
export function differentiable<S extends readonly tf.Tensor[]>(
  inputs: readonly tf.Tensor2D[],
  act: () => Done<S>,
): tf.Tensor2D {
  const operation = tf.customGrad((...args) => {
    const { value, saved, gradients } = act()
    const save = args[args.length - 1] as tf.GradSaveFunc
    save([...saved])
    return {
      value,
      gradFunc: (up: tf.Tensor, kept: tf.Tensor[]) =>
        tf.tidy(() => gradients(up as tf.Tensor2D, kept as unknown as S)),
    }
  })
  return operation(...inputs) as tf.Tensor2D
}
