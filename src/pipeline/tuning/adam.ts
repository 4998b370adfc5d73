/** How fast the mean gradient and the mean square gradient forget. */
const MEAN_DECAY = 0.9
const SQUARE_DECAY = 0.95
/** Keeps the step of a value whose gradients all but vanish finite. */
const TINY = 1e-30

/** Values that a gradient moves, and what it remembers of earlier gradients. */
export interface AdamState {
  readonly values: Float64Array
  readonly mean: Float64Array
  readonly square: Float64Array
  /** How far a value moves per step when its gradients agree, at the learning rate 1. */
  readonly sizes: Float64Array
  steps: number
}

/**
 * Starts Adam (Kingma and Ba, 2015) at `values`.
 *
 * @param sizes one per value
 */
export function startAdam(values: Float64Array, sizes: Float64Array): AdamState {
  const zeros = () => new Float64Array(values.length)
  return { values: values.slice(), mean: zeros(), square: zeros(), sizes, steps: 0 }
}

/** Moves the values one step against `gradient`. A value whose gradient was 0 so far stays where it is. */
export function stepAdam(state: AdamState, gradient: Float64Array, learningRate: number): void {
  const { values, mean, square, sizes } = state
  state.steps++
  const meanScale = 1 / (1 - MEAN_DECAY ** state.steps)
  const squareScale = 1 / (1 - SQUARE_DECAY ** state.steps)
  for (let i = 0; i < values.length; i++) {
    const slope = gradient[i]
    mean[i] = MEAN_DECAY * mean[i] + (1 - MEAN_DECAY) * slope
    square[i] = SQUARE_DECAY * square[i] + (1 - SQUARE_DECAY) * slope * slope
    const direction = (mean[i] * meanScale) / Math.sqrt(square[i] * squareScale + TINY)
    values[i] -= learningRate * sizes[i] * direction
  }
}
