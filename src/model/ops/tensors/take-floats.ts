import * as tf from '@tensorflow/tfjs-core'
import { turnOfEventLoop } from '../../../common/event-loop.js'

/**
 * Reads a float tensor's values and disposes it. Lets pending events run first: the engines compute without a pause,
 * and a signal or a timer would otherwise wait until the whole model is done.
 */
export async function takeFloats(tensor: tf.Tensor): Promise<Float32Array> {
  try {
    await turnOfEventLoop()
    const values = await tensor.data<'float32'>()
    // the other engines may hand out the array that they, or another tensor, were given
    return tf.getBackend() === 'wasm' ? values : values.slice()
  } finally {
    tensor.dispose()
  }
}
