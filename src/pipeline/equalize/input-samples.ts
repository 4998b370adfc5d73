import { randomGenerator } from '../../common/random.js'
import type { OnActivations } from '../../model/decoder/weights.js'

/** What a layer reads on a text. */
export interface InputSample {
  /** Values of a token. */
  readonly width: number
  /** tokens x width, of tokens drawn evenly among all. */
  readonly values: Float32Array
  /** The least value of each channel among all tokens, 0 at most. */
  readonly low: Float32Array
  /** The greatest, 0 at least. */
  readonly high: Float32Array
}

/** Samples what layers read. */
export interface InputSampler {
  readonly onActivations: OnActivations
  /** By the name of the layer, as far as tokens reached them; begins anew. */
  take(): Map<string, InputSample>
}

interface Reservoir {
  readonly width: number
  readonly kept: Float32Array
  readonly low: Float32Array
  readonly high: Float32Array
  readonly random: () => number
  seen: number
}

/** Keeps so many tokens of each layer, all of them as likely to be kept; layers that read the same keep the same. */
export function inputSampler(tokensOf: (layer: string) => number, seed: number): InputSampler {
  let reservoirs = new Map<string, Reservoir>()
  return {
    onActivations({ name, width }, values) {
      const tokens = tokensOf(name)
      if (tokens === 0) return undefined
      if (!reservoirs.has(name)) {
        reservoirs.set(name, {
          width,
          kept: new Float32Array(tokens * width),
          low: new Float32Array(width),
          high: new Float32Array(width),
          random: randomGenerator(seed),
          seen: 0,
        })
      }
      addTokens(reservoirs.get(name)!, values, tokens)
      return undefined
    },
    take() {
      const samples = new Map(
        Array.from(reservoirs, ([name, { width, kept, low, high, seen }]) => {
          const values = kept.subarray(0, Math.min(kept.length, seen * width))
          return [name, { width, values, low, high }]
        }),
      )
      reservoirs = new Map()
      return samples
    },
  }
}

function addTokens(reservoir: Reservoir, values: Float32Array, tokens: number): void {
  const { width, kept, low, high, random } = reservoir
  for (let start = 0; start < values.length; start += width) {
    for (let j = 0; j < width; j++) {
      const value = values[start + j]
      if (value < low[j]) low[j] = value
      else if (value > high[j]) high[j] = value
    }
    const place = reservoir.seen < tokens ? reservoir.seen : Math.floor(random() * (reservoir.seen + 1))
    if (place < tokens) kept.set(values.subarray(start, start + width), place * width)
    reservoir.seen++
  }
}
