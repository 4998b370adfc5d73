/** How many bits the layers of a model get. */
export interface MixedBitsOptions {
  /**
   * Index bits per weight of all layers, 1 to 8, default 2. Or `'mixed'`: each layer gets bits and a group size of its
   * own, by its effect on the model's predictions, and `bpv` (then default 2.125) is the budget of all layers together.
   */
  bits?: number | 'mixed'
}

export const DEFAULT_BUDGET = 2.125

/** What a layer is quantized with, besides the settings that all layers share: options of `quantizeLayer`. */
export interface LayerBits {
  readonly bits: number
  /** Bits per value of this layer at most, all stored bytes counted. */
  readonly bpv: number
}
