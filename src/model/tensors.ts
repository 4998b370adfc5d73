import { setImmediate as nextTurn } from 'node:timers/promises'
import type * as tf from '@tensorflow/tfjs-core'

/**
 * Reads a float tensor's values and disposes it. Lets pending events run first: the engines compute without a pause,
 * and a signal or a timer would otherwise wait until the whole model is done.
 */
export async function takeFloats(tensor: tf.Tensor): Promise<Float32Array> {
  try {
    await nextTurn()
    return await tensor.data<'float32'>()
  } finally {
    tensor.dispose()
  }
}
