/** What a layer was given of the budget. */
export interface LayerShare {
  /** The weight's name less `.weight`. */
  readonly name: string
  readonly bits: number
  /** Bits per value of this layer, all stored bytes counted. */
  readonly bpv: number
  readonly bytes: number
  /** Predicted mean KL(full || quantized), in nats per token, of the model with this layer alone quantized. */
  readonly divergence: number
}

/** How a budget of bits was shared out among the layers. */
export interface MixedReport {
  /** The budget: bits per value over all quantized weights, at most. */
  readonly bpv: number
  readonly layers: readonly LayerShare[]
  readonly bytes: { readonly budget: number; readonly used: number }
  /** The sum of the layers' predicted divergences. */
  readonly divergence: number
  /** What the sensitivity of the layers was measured on. */
  readonly sequences: { readonly count: number; readonly length: number }
}
