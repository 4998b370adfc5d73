import * as tf from '@tensorflow/tfjs-core'

/**
 * The gradients of the operations that a block is made of. In Node tfjs-core comes without any; only the whole tfjs,
 * which tfjs-node loads, brings its own. Attention has a gradient of its own: see `attention-gradient.ts`.
 */
const gradients: readonly tf.GradConfig[] = [
  {
    kernelName: tf.Add,
    inputsToSave: ['a', 'b'],
    gradFunc: (dy, [a, b]) => ({
      a: () => summedTo(one(dy), a.shape),
      b: () => summedTo(one(dy), b.shape),
    }),
  },
  {
    kernelName: tf.Multiply,
    inputsToSave: ['a', 'b'],
    gradFunc: (dy, [a, b]) => ({
      a: () => summedTo(tf.mul(one(dy), b), a.shape),
      b: () => summedTo(tf.mul(one(dy), a), b.shape),
    }),
  },
  {
    kernelName: tf.Square,
    inputsToSave: ['x'],
    gradFunc: (dy, [x]) => ({ x: () => tf.mul(one(dy), tf.mul(x, 2)) }),
  },
  {
    kernelName: tf.Rsqrt,
    outputsToSave: [true],
    // y = x^(-1/2), so y' = -y^3 / 2
    gradFunc: (dy, [y]) => ({ x: () => tf.mul(one(dy), tf.mul(tf.mul(tf.square(y), y), -0.5)) }),
  },
  {
    kernelName: tf.Sigmoid,
    outputsToSave: [true],
    gradFunc: (dy, [y]) => ({ x: () => tf.mul(one(dy), tf.mul(y, tf.sub(1, y))) }),
  },
  {
    kernelName: tf.Mean,
    inputsToSave: ['x'],
    gradFunc: (dy, [x], { axis }) => ({ x: () => spread(one(dy), x.shape, axis as number | number[]) }),
  },
  {
    kernelName: tf.Reshape,
    inputsToSave: ['x'],
    gradFunc: (dy, [x]) => ({ x: () => tf.reshape(one(dy), x.shape) }),
  },
  {
    kernelName: tf.BatchMatMul,
    inputsToSave: ['a', 'b'],
    gradFunc: (dy, [a, b], { transposeA, transposeB }) => ({
      a: () => summedTo(leftGradient(one(dy), b, Boolean(transposeA), Boolean(transposeB)), a.shape),
      b: () => summedTo(rightGradient(one(dy), a, Boolean(transposeA), Boolean(transposeB)), b.shape),
    }),
  },
]

/** Registers the gradients that the engine does not have, once for the whole process. */
export function registerGradients(): void {
  for (const gradient of gradients) {
    if (tf.getGradient(gradient.kernelName) === undefined) tf.registerGradient(gradient)
  }
}

function one(dy: tf.Tensor | tf.Tensor[]): tf.Tensor {
  return Array.isArray(dy) ? dy[0] : dy
}

/** Sums over the axes along which `shape` was broadcast. */
function summedTo(gradient: tf.Tensor, shape: number[]): tf.Tensor {
  const axes = tf.broadcast_util.getReductionAxes(shape, gradient.shape)
  return tf.reshape(axes.length === 0 ? gradient : tf.sum(gradient, axes), shape)
}

/** The gradient of a mean over `axes`: each value's equal share. */
function spread(gradient: tf.Tensor, shape: number[], axes: number | number[]): tf.Tensor {
  const kept = shape.slice()
  for (const axis of tf.util.parseAxisParam(axes, shape)) kept[axis] = 1
  const share = tf.util.sizeFromShape(kept) / tf.util.sizeFromShape(shape)
  return tf.mul(tf.mul(tf.reshape(gradient, kept), share), tf.ones(shape))
}

/** Of `C = op(A) op(B)` the gradient on A as stored: `dC op(B)^T`, or its transpose. */
function leftGradient(dy: tf.Tensor, b: tf.Tensor, transposeA: boolean, transposeB: boolean): tf.Tensor {
  return transposeA ? tf.matMul(b, dy, transposeB, true) : tf.matMul(dy, b, false, !transposeB)
}

/** The gradient on B as stored: `op(A)^T dC`, or its transpose. */
function rightGradient(dy: tf.Tensor, a: tf.Tensor, transposeA: boolean, transposeB: boolean): tf.Tensor {
  return transposeB ? tf.matMul(dy, a, true, transposeA) : tf.matMul(a, dy, !transposeA, false)
}
