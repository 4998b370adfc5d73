/** Time that the parts took, in seconds. */
export interface PhaseSeconds {
  /** Gathering calibration text, and running it through the blocks. */
  calibration: number
  /** Of the layers, where their bits are chosen by it; trials included. */
  sensitivity: number
  /** Quantizing the layers. */
  quantization: number
  /** Tuning the codebooks of all layers together; 0 without. */
  tuning: number
}

/** Nothing done yet. */
export const NO_TIME: PhaseSeconds = { calibration: 0, sensitivity: 0, quantization: 0, tuning: 0 }
