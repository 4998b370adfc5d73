import type { RotaryDescription, RotaryScaling } from '../../model/decoder/description.js'
import { rotaryFrequencies } from '../../model/decoder/rotary.js'

/** A rotation scaled as Llama 3 does. */
export type Llama3Rotary = Omit<RotaryDescription, 'scaling'> & {
  readonly scaling: Extract<RotaryScaling, { kind: 'llama3' }>
}

/** What llama.cpp divides the frequency of each pair by, `dims / 2` values. */
export function llama3Factors(rotary: Llama3Rotary): Float32Array {
  const length = rotary.scaling.originalMaxPositions
  const { frequencies } = rotaryFrequencies(rotary, length)
  const plain = rotaryFrequencies({ ...rotary, scaling: { kind: 'default' } }, length).frequencies
  return Float32Array.from(frequencies, (one, pair) => plain[pair] / one)
}
