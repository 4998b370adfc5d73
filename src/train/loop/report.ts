import type { StateBytes } from './student.js'

/** Mean losses; those of predictions in nats per token. */
export interface TrainingLoss {
  /** What is lowered: the others, mixed. */
  readonly loss: number
  /** Of the next token. */
  readonly crossEntropy: number
  /** KL(teacher || model); 0 without a teacher. */
  readonly divergence: number
  /**
   * Mean squared distance of the hidden states after the blocks from the teacher's, relative to the size of these; 0
   * without a `hiddenWeight`.
   */
  readonly hidden: number
}

/** One measurement during training. */
export interface TrainingPoint {
  /** Steps that were done; 0: before training. */
  readonly step: number
  /** On as many of the training sequences as are held out. */
  readonly training: TrainingLoss
  /** On the sequences that are held out: chooses the step that is kept. */
  readonly heldOut: TrainingLoss
  /** Mean loss of the batches since the measurement before, each measured just before its step; null before training. */
  readonly batches: TrainingLoss | null
}

/** What training came to. */
export interface TrainingCurve {
  /** Before training, and after each so many steps. */
  readonly points: readonly TrainingPoint[]
  /** The point whose weights were kept: the one with the lowest loss on the sequences held out. */
  readonly kept: number
  /** How much text there was. */
  readonly sequences: {
    /** Sequences that were trained on. */
    readonly training: number
    /** Sequences that chose the step. */
    readonly heldOut: number
    /** Tokens in each. */
    readonly length: number
  }
  /** Trained tokens per second of forward pass, backward pass and step, without measurements. */
  readonly tokensPerSecond: number
  /** Memory that grows with what is trained. */
  readonly stateBytes: StateBytes
}
