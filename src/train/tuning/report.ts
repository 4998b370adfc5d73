/** Divergences of the quantized model from the full one: mean KL(full || quantized), in nats per token. */
export interface TuningEpoch {
  /** 0: before tuning. */
  readonly epoch: number
  /** On as many of the training sequences as are held out. */
  readonly training: number
  /** On the sequences that are held out: chooses the epoch. */
  readonly heldOut: number
}

/** What tuning did. */
export interface TuningReport {
  /** Before tuning, and after each epoch; the codebooks rounded to their stored form. */
  readonly epochs: readonly TuningEpoch[]
  /** The epoch whose codebooks were kept: the one with the lowest divergence on the sequences held out. */
  readonly kept: number
  /** How much text there was. */
  readonly sequences: {
    /** Sequences that were tuned on. */
    readonly training: number
    /** Sequences that chose the epoch. */
    readonly heldOut: number
    /** Tokens in each. */
    readonly length: number
  }
  /** Time that tuning took. */
  readonly seconds: number
}
