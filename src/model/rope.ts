import type { LlamaConfig } from './config.js'

/** Cosines and sines of rotary angles, each positions x headDim; the second half of a row repeats the first. */
export interface RopeTables {
  readonly positions: number
  readonly cos: Float32Array
  readonly sin: Float32Array
}

/** The angle per position of each of the `headDim / 2` pairs, in radians. */
export function ropeFrequencies(config: LlamaConfig): Float64Array {
  const { headDim, ropeTheta, ropeScaling } = config
  return Float64Array.from({ length: headDim / 2 }, (_, pair) => {
    const frequency = ropeTheta ** ((-2 * pair) / headDim)
    if (ropeScaling.type === 'default') return frequency
    if (ropeScaling.type === 'linear') return frequency / ropeScaling.factor
    const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = ropeScaling
    // turns of this pair over the original context: few turns are stretched, many are kept, a ramp in between
    const turns = (originalMaxPositions * frequency) / (2 * Math.PI)
    const ramp = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)
    const kept = Math.min(1, Math.max(0, ramp))
    return kept * frequency + ((1 - kept) * frequency) / factor
  })
}

const tablesOfConfig = new WeakMap<LlamaConfig, RopeTables>()

/** Tables of at least `positions` rows, from position 0; remembered as long as `config` lives. */
export function ropeTables(config: LlamaConfig, positions: number): RopeTables {
  const known = tablesOfConfig.get(config)
  if (known !== undefined && known.positions >= positions) return known
  const frequencies = ropeFrequencies(config)
  const half = frequencies.length
  const cos = new Float32Array(positions * config.headDim)
  const sin = new Float32Array(positions * config.headDim)
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < half; pair++) {
      const at = position * config.headDim + pair
      cos[at] = cos[at + half] = Math.cos(position * frequencies[pair])
      sin[at] = sin[at + half] = Math.sin(position * frequencies[pair])
    }
  }
  const tables = { positions, cos, sin }
  tablesOfConfig.set(config, tables)
  return tables
}

/**
 * The headDim x headDim matrix `R` for which `x R` is `(-second half of x, first half of x)`. A product with it is
 * exact (a sum of one value and zeros), differentiable, and faster on the wasm engine than slices and a concat.
 */
export function halfTurnMatrix(headDim: number): Float32Array {
  const turn = new Float32Array(headDim * headDim)
  const half = headDim / 2
  for (let pair = 0; pair < half; pair++) {
    turn[(pair + half) * headDim + pair] = -1
    turn[pair * headDim + pair + half] = 1
  }
  return turn
}
