import * as tf from '@tensorflow/tfjs-core'
import type { Routes } from '../ops.js'
import { differentiable } from './differentiable.js'

/** See `Ops`. The choice itself has no gradient; the shares of the chosen have one. */
export function route(logits: tf.Tensor2D, active: number, sumToOne: boolean): Routes<tf.Tensor2D> {
  const [count, experts] = logits.shape
  const chosen = largestOfRows(logits.dataSync<'float32'>(), experts, active)
  const weights = differentiable([logits], () => {
    const mask = tf.tensor2d(chosen, [count, experts])
    const shares = tf.softmax(logits)
    const kept = tf.mul<tf.Tensor2D>(shares, mask)
    const value = sumToOne ? tf.div<tf.Tensor2D>(kept, tf.sum(kept, 1, true)) : kept
    return {
      value,
      saved: [mask, shares, value],
      gradients: (up, [m, all, w]) => {
        // divided by their sum the shares are a softmax of the chosen logits alone
        const own = sumToOne ? w : all
        const common = tf.sum(tf.mul(up, w), 1, true)
        return [tf.mul(own, tf.sub(tf.mul(up, m), common))]
      },
    }
  })
  return { tokens: tokensOfExperts(chosen, experts), weights }
}

/** 1 at the `active` largest values of each row, the first of equal ones, and 0 elsewhere. */
function largestOfRows(values: Float32Array, cols: number, active: number): Float32Array {
  const chosen = new Float32Array(values.length)
  for (let first = 0; first < values.length; first += cols) {
    for (let n = 0; n < active; n++) {
      let best = -1
      for (let i = first; i < first + cols; i++) {
        if (chosen[i] === 0 && (best < 0 || values[i] > values[best])) best = i
      }
      chosen[best] = 1
    }
  }
  return chosen
}

function tokensOfExperts(chosen: Float32Array, experts: number): Int32Array[] {
  return Array.from({ length: experts }, (_, expert) => {
    const tokens: number[] = []
    for (let token = 0; token * experts < chosen.length; token++) {
      if (chosen[token * experts + expert] === 1) tokens.push(token)
    }
    return Int32Array.from(tokens)
  })
}

/** See `Ops`. */
export function pick(x: tf.Tensor2D, tokens: Int32Array): tf.Tensor2D {
  return differentiable([x], () => ({
    value: rowsAt(x, tokens),
    saved: [],
    gradients: (up) => [amongZeros(up, tokens, x.shape)],
  }))
}

/** See `Ops`. */
export function stack(parts: readonly tf.Tensor2D[]): tf.Tensor2D {
  return tf.concat([...parts], 0)
}

/** See `Ops`. */
export function mix(
  sum: tf.Tensor2D,
  x: tf.Tensor2D,
  { tokens, weights }: Routes<tf.Tensor2D>,
  expert: number,
): tf.Tensor2D {
  const rows = tokens[expert]
  return differentiable([sum, x, weights], () => {
    const places = tf.tensor2d(placesOf(rows, expert), [rows.length, 2], 'int32')
    const shares = tf.reshape<tf.Rank.R2>(tf.gatherND(weights, places), [-1, 1])
    return {
      value: tf.add<tf.Tensor2D>(sum, amongZeros(tf.mul(x, shares), rows, sum.shape)),
      saved: [x, shares, places],
      gradients: (up, [values, w, at]) => {
        const onRows = rowsAt(up, rows)
        const onShares = tf.sum(tf.mul(onRows, values), 1)
        return [tf.clone(up), tf.mul(onRows, w), tf.scatterND(at, onShares, weights.shape) as tf.Tensor2D]
      },
    }
  })
}

/** The places of an expert's shares in tokens x experts. */
function placesOf(tokens: Int32Array, expert: number): Int32Array {
  const places = new Int32Array(2 * tokens.length).fill(expert)
  for (const [i, token] of tokens.entries()) places[2 * i] = token
  return places
}

function rowsAt(x: tf.Tensor2D, tokens: Int32Array): tf.Tensor2D {
  // copies whole rows, where the wasm engine's tf.gather goes value by value
  return tf.gatherND(x, asColumn(tokens)) as tf.Tensor2D
}

function asColumn(tokens: Int32Array): tf.Tensor2D {
  return tf.tensor2d(tokens, [tokens.length, 1], 'int32')
}

/** These rows at their places among rows of zeros; those of the same place are added. */
function amongZeros(rows: tf.Tensor2D, tokens: Int32Array, shape: [number, number]): tf.Tensor2D {
  return tf.scatterND(asColumn(tokens), rows, shape) as tf.Tensor2D
}
