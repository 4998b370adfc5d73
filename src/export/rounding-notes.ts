import type { QuantizationConfig } from '../checkpoint/quantized/quantized-config.js'

/**
 * What to say of a model whose activations are rounded: no format that is exported to has a way to.
 *
 * @param place where they are not, in words
 */
export function roundingNotes(quantization: QuantizationConfig | undefined, place: string): string[] {
  if (!quantization?.activations) return []
  return [`its activations are rounded here, as config.json says, but not in ${place}`]
}
