import type { DecoderDescription, RotaryScaling } from '../../model/decoder/description.js'
import { llama3Factors } from './rotary-factors.js'

/** A list of float32 values that a GGUF file holds beside the weights. */
export interface RotaryTensor {
  readonly name: string
  readonly values: Float32Array
}

/** The factors of frequencies that llama.cpp reads from tensors: those of Llama 3's scaling, and of longrope. */
export function rotaryTensors({ blocks }: DecoderDescription): RotaryTensor[] {
  const rotary = blocks.find(({ attention }) => attention.rotary)?.attention.rotary
  if (rotary === undefined) return []
  const { scaling } = rotary
  if (scaling.kind === 'llama3') {
    return [{ name: 'rope_freqs.weight', values: llama3Factors({ ...rotary, scaling }) }]
  }
  return scaling.kind === 'longrope' ? longropeTensors(scaling) : []
}

function longropeTensors(scaling: Extract<RotaryScaling, { kind: 'longrope' }>): RotaryTensor[] {
  return [
    { name: 'rope_factors_long.weight', values: Float32Array.from(scaling.longFactors) },
    { name: 'rope_factors_short.weight', values: Float32Array.from(scaling.shortFactors) },
  ]
}
