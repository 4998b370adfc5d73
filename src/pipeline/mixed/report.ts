/** What a layer was given of the budget. */
export interface LayerShare {
  /** The weight's name less `.weight`. */
  readonly name: string
  /** Index bits per weight. */
  readonly bits: number
  /** Bits per value of this layer, all stored bytes counted. */
  readonly bpv: number
  /** Bytes of its packed arrays. */
  readonly bytes: number
  /** Predicted mean KL(full || quantized), in nats per token, of the model with this layer alone quantized. */
  readonly divergence: number
}

/** How a budget of bits was shared out among the layers. */
export interface MixedReport {
  /** The budget: bits per value over all quantized weights, at most. */
  readonly bpv: number
  /** In the order of the forward pass. */
  readonly layers: readonly LayerShare[]
  /** Of all packed arrays. */
  readonly bytes: {
    /** What `bpv` allows. */
    readonly budget: number
    /** What the choice takes, never more. */
    readonly used: number
  }
  /** The sum of the layers' predicted divergences. */
  readonly divergence: number
  /** What the sensitivity of the layers was measured on. */
  readonly sequences: {
    /** How many. */
    readonly count: number
    /** Tokens of each. */
    readonly length: number
  }
}
