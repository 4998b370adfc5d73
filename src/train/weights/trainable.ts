import type { QuantizedLayer } from '../../packing/quantized-layer.js'

/** Numbers of either precision. */
export type Floats = Float32Array | Float64Array

/** Values that training moves. */
export interface Parameter {
  /** Within its tensor, e.g. `'scales'`. */
  readonly name: string
  /** Changed in place. */
  readonly values: Floats
  /** How far a value moves per step when its gradients agree, at the learning rate 1: one for all, or one each. */
  readonly sizes: number | Floats
  /** Whether weight decay pulls it towards 0. */
  readonly decays: boolean
}

/** Indices that are chosen for weights. */
export interface Choices {
  /** As they are; not to be changed. */
  values(): Uint16Array
  set(values: Uint16Array): void
  /** Chooses them for the weights as they are now. */
  rechoose(): void
}

/**
 * A tensor of a model that follows from parameters. What runs is what would be stored; until the first {@link
 * Trainable.refresh} that is what training starts from, to the bit.
 */
export interface Trainable {
  readonly parameters: readonly Parameter[]
  /** Bytes beside parameters that training needs of it, e.g. a frozen weight. */
  readonly frozenBytes: number
  /** Brings what runs and is stored up to date with the parameters. To be called whenever they changed. */
  refresh(): void
  /** The tensor's values, row-major. */
  values(): Float32Array
  /**
   * Adds the gradient on the tensor's values to those on the parameters.
   *
   * @param onParameters one for each parameter, of its length
   */
  addGradient(onValues: Float32Array, onParameters: readonly Floats[]): void
  /** What gradients cannot move but is chosen anew now and then: the indices of vectors. */
  readonly choices?: Choices
  /** The layer as it is stored; undefined for a tensor of plain numbers. */
  layer?(): QuantizedLayer
}
