import type { OnActivations } from '../../model/decoder/weights.js'

/** What values span. */
export interface TensorRange {
  /** The least. */
  readonly low: number
  /** The greatest. */
  readonly high: number
  /** The square root of the mean square. */
  readonly rms: number
}

/** The same of the inputs of a layer. */
export interface InputRange extends TensorRange {
  /** The largest magnitude in the largest channel over that in the median one: what one range for all costs the others. */
  readonly outlierRatio: number
}

/** What the values of a tensor span. */
export function rangeOfValues(values: Float32Array): TensorRange {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  let squares = 0
  for (let i = 0; i < values.length; i++) {
    if (values[i] < low) low = values[i]
    if (values[i] > high) high = values[i]
    squares += values[i] * values[i]
  }
  return { low, high, rms: Math.sqrt(squares / values.length) }
}

/** Watches the inputs of layers. */
export interface InputWatch {
  readonly onActivations: OnActivations
  /** By the name of the layer, as far as tokens reached them. */
  ranges(): Map<string, InputRange>
}

interface Seen {
  low: number
  high: number
  squares: number
  count: number
  /** Largest magnitude of each channel. */
  readonly channels: Float32Array
}

/** Sums what layers read. */
export function watchInputs(): InputWatch {
  const seen = new Map<string, Seen>()
  return {
    onActivations({ name, width }, values) {
      if (!seen.has(name)) {
        seen.set(name, { low: 0, high: 0, squares: 0, count: 0, channels: new Float32Array(width) })
      }
      addValues(seen.get(name)!, values)
      return undefined
    },
    ranges: () =>
      new Map(
        Array.from(seen, ([name, { low, high, squares, count, channels }]) => {
          const sizes = channels.slice().sort()
          const median = sizes[Math.floor(sizes.length / 2)]
          const outlierRatio = median > 0 ? sizes[sizes.length - 1] / median : 1
          return [name, { low, high, rms: Math.sqrt(squares / count), outlierRatio }]
        }),
      ),
  }
}

function addValues(seen: Seen, values: Float32Array): void {
  const { channels } = seen
  for (let start = 0; start < values.length; start += channels.length) {
    for (let j = 0; j < channels.length; j++) {
      const value = values[start + j]
      if (value < seen.low) seen.low = value
      if (value > seen.high) seen.high = value
      if (Math.abs(value) > channels[j]) channels[j] = Math.abs(value)
      seen.squares += value * value
    }
  }
  seen.count += values.length
}
