import type { DecoderDescription } from '../model/decoder/description.js'

/** How the rotary angles of a sequence are computed. Keys of one era can stand in one cache, others not. */
export interface RotaryEra {
  /** Equal for lengths that share their angles. */
  readonly era: number
  /** The length that the angles are computed for. */
  readonly span: number
}

/**
 * The era of a sequence of `length` tokens. Only dynamic and longrope scaling have several: longrope two, and dynamic
 * scaling, whose angles change with every token beyond the original length, one for each doubling of it.
 */
export function rotaryEra({ blocks }: DecoderDescription, length: number): RotaryEra {
  let [era, span] = [0, length]
  for (const { attention } of blocks) {
    const scaling = attention.rotary?.scaling
    if (scaling?.kind === 'longrope' && length > scaling.originalMaxPositions) era = Math.max(era, 1)
    if (scaling?.kind === 'dynamic' && length > scaling.originalMaxPositions) {
      const doublings = Math.ceil(Math.log2(length / scaling.originalMaxPositions))
      span = Math.max(span, scaling.originalMaxPositions * 2 ** doublings)
      era = Math.max(era, span)
    }
  }
  return { era, span }
}
