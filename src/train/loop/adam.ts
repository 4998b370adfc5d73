import type { Floats } from '../weights/trainable.js'

/** How fast the mean gradient and the mean square gradient forget. */
const MEAN_DECAY = 0.9
const SQUARE_DECAY = 0.95
/** Keeps the step of a value whose gradients all but vanish finite. */
const TINY = 1e-30

/** Values that a gradient moves, and what it remembers of earlier gradients. */
export interface AdamState {
  readonly values: Floats
  readonly mean: Floats
  readonly square: Floats
  /** How far a value moves per step when its gradients agree, at the learning rate 1: one for all, or one each. */
  readonly sizes: number | Floats
  /** Share of a value that a step takes off, at the learning rate 1. */
  readonly decay: number
  steps: number
}

/**
 * Starts AdamW (Kingma and Ba, 2015; Loshchilov and Hutter, 2019) at `values`, which its steps change in place.
 *
 * @param sizes one for all values, or one per value
 * @param decay default 0: Adam
 */
export function startAdam(values: Floats, sizes: number | Floats, decay = 0): AdamState {
  const zeros = () =>
    values instanceof Float32Array ? new Float32Array(values.length) : new Float64Array(values.length)
  return { values, mean: zeros(), square: zeros(), sizes, decay, steps: 0 }
}

/** Moves the values one step against `gradient`. A value whose gradient was 0 so far stays where it is, but for decay. */
export function stepAdam(state: AdamState, gradient: Floats, learningRate: number): void {
  const { values, mean, square, sizes, decay } = state
  state.steps++
  const meanScale = 1 / (1 - MEAN_DECAY ** state.steps)
  const squareScale = 1 / (1 - SQUARE_DECAY ** state.steps)
  const kept = 1 - learningRate * decay
  for (let i = 0; i < values.length; i++) {
    const slope = gradient[i]
    mean[i] = MEAN_DECAY * mean[i] + (1 - MEAN_DECAY) * slope
    square[i] = SQUARE_DECAY * square[i] + (1 - SQUARE_DECAY) * slope * slope
    const direction = (mean[i] * meanScale) / Math.sqrt(square[i] * squareScale + TINY)
    const size = typeof sizes === 'number' ? sizes : sizes[i]
    values[i] = kept * values[i] - learningRate * size * direction
  }
}
