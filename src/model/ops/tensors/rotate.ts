import * as tf from '@tensorflow/tfjs-core'
import type { RotaryTables, TokenRows } from '../ops.js'
import { differentiable } from './differentiable.js'

/** See `Ops`. */
export function rotate(x: tf.Tensor2D, tokens: TokenRows, heads: number, tables: RotaryTables): tf.Tensor2D {
  const headDim = x.shape[1] / heads
  const shape: [number, number, number, number] = [tokens.sequences, tokens.length, heads, headDim]
  return differentiable([x], () => {
    const cosines = table(tables.cos, 1, tokens, tables.dims, headDim)
    const sines = table(tables.sin, 0, tokens, tables.dims, headDim)
    const halfTurn = tf.tensor2d(halfTurnMatrix(headDim, tables.dims), [headDim, headDim])
    return {
      value: turn(x, shape, cosines, sines, halfTurn),
      saved: [cosines, sines, halfTurn],
      // the transpose of a rotation turns back
      gradients: (up, [cos, sin, half]) => [turn(up, shape, cos, tf.neg(sin), half)],
    }
  })
}

function turn(
  x: tf.Tensor2D,
  shape: [number, number, number, number],
  cosines: tf.Tensor3D,
  sines: tf.Tensor3D,
  halfTurn: tf.Tensor2D,
): tf.Tensor2D {
  const turned = tf.matMul(tf.reshape<tf.Rank.R2>(x, [-1, shape[3]]), halfTurn)
  const along = tf.mul(tf.reshape(x, shape), cosines)
  return tf.reshape(tf.add(along, tf.mul(tf.reshape(turned, shape), sines)), x.shape)
}

/** The rows of the tokens' positions, each head's values after the first `dims` filled up: length x 1 x headDim. */
function table(
  values: Float32Array,
  rest: number,
  { position, length }: TokenRows,
  dims: number,
  headDim: number,
): tf.Tensor3D {
  const rows = new Float32Array(length * headDim).fill(rest)
  for (let i = 0; i < length; i++) {
    rows.set(values.subarray((position + i) * dims, (position + i + 1) * dims), i * headDim)
  }
  return tf.tensor3d(rows, [length, 1, headDim])
}

/**
 * The headDim x headDim matrix `R` for which the first `dims` values of `x R` are `(-second half of them, first half)`,
 * and the others 0. A product with it is exact (a sum of one value and zeros), and faster on the wasm engine than
 * slices and a concat.
 */
function halfTurnMatrix(headDim: number, dims: number): Float32Array {
  const matrix = new Float32Array(headDim * headDim)
  const half = dims / 2
  for (let pair = 0; pair < half; pair++) {
    matrix[(pair + half) * headDim + pair] = -1
    matrix[pair * headDim + pair + half] = 1
  }
  return matrix
}
