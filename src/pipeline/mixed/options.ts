/** How many bits the layers of a model get. */
export interface MixedBitsOptions {
  /**
   * Index bits per weight of all layers, 1 to 8, default 2. Or `'mixed'`: each layer gets bits of its own (with plain
   * codebooks and a group size), by its effect on the model's predictions, and `bpv` (then default 2.125) is the budget of
   * all layers together; the default where `bpv` is given, layers have a trellis, and `set` and `groupSize` are left out.
   */
  bits?: number | 'mixed'
}

export const DEFAULT_BUDGET = 2.125

/** What a layer is quantized with, besides the settings that all layers share: options of `quantizeLayer`. */
export interface LayerBits {
  /** Undefined: those that all layers share. */
  readonly bits?: number
  /** Bits per value of this layer at most, all stored bytes counted. */
  readonly bpv: number
}
