import * as tf from '@tensorflow/tfjs-core'
import type { Ops } from '../ops.js'
import { activate, gate } from './activations.js'
import { attend, closeCache, copyCache, openCache } from './attend.js'
import { add, clip, columns, gateRows, replace, scale, softCap } from './elementwise.js'
import { mix, pick, route, stack } from './experts.js'
import { type LinearGradientListener, linear } from './linear.js'
import { type NormGradientListener, norm } from './norm.js'
import { biasTensor, releaseTensors, transposedWeight } from './residence.js'
import { rotate } from './rotate.js'
import { takeFloats } from './take-floats.js'

/** What a backward pass is watched by. */
export interface TensorHooks {
  /** Called once for each {@link Ops.linear} that the gradient goes through. */
  readonly onLinearGradient?: LinearGradientListener
  /** The same for each {@link Ops.norm}. */
  readonly onNormGradient?: NormGradientListener
}

/** The operations on tensors of the running tfjs engine; all but `stack` and those with a cache have gradients. */
export function tensorOps({ onLinearGradient, onNormGradient }: TensorHooks = {}): Ops<tf.Tensor2D> {
  return {
    upload: (values, rows, cols) => tf.tensor2d(values, [rows, cols]),
    replace,
    shape: (x) => x.shape,
    read: (x) => x.dataSync<'float32'>(),
    take: takeFloats,
    tidy,
    free: (...matrices) => tf.dispose([...matrices]),
    hold: (weights) => {
      transposedWeight(weights)
      if (weights.bias !== undefined) biasTensor(weights.bias)
      return weights
    },
    release: releaseTensors,
    linear: (x, weights) => linear(x, weights, onLinearGradient),
    norm: (x, weights) => norm(x, weights, onNormGradient),
    columns,
    clip,
    add,
    scale,
    softCap,
    activate,
    gate,
    gateRows,
    rotate,
    attend,
    openCache,
    copyCache,
    closeCache,
    route,
    pick,
    stack,
    mix,
  }
}

function tidy<S>(use: () => S): S {
  let result: { readonly value: S } | undefined
  tf.tidy(() => {
    const value = use()
    result = { value }
    return tensorsOf(value)
  })
  return (result as { readonly value: S }).value
}

/** The tensors in a value; tfjs would look for them in every element of an array of numbers. */
function tensorsOf(value: unknown): tf.Tensor[] {
  if (value instanceof tf.Tensor) return [value]
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return []
  return Object.values(value).flatMap(tensorsOf)
}
