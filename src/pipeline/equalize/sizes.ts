import type { LinearDescription } from '../../model/decoder/description.js'
import { readTensor, type WeightSource } from '../../model/decoder/weights.js'
import { type ActivationPass, showActivations } from '../activations/collect-ranges.js'
import type { RowMaker, Seam } from './seams.js'

/** Reads the weights of a layer, rows x cols. */
export type ReadWeight = (linear: LinearDescription) => Promise<Float32Array>

/** Reads weights as a source has them. */
export function weightsFrom(source: WeightSource): ReadWeight {
  return ({ module, rows, cols, kind }) =>
    readTensor(source, `${module}.weight`, [rows, cols], `rows and columns of ${kind}`)
}

/** Reads each layer once, and keeps what it read. */
export function keepingWeights(read: ReadWeight): ReadWeight {
  const kept = new Map<string, Promise<Float32Array>>()
  return (linear) => {
    const weight = kept.get(linear.module) ?? read(linear)
    kept.set(linear.module, weight)
    return weight
  }
}

/** The largest magnitude that each input of each layer has on the calibration text. */
export async function inputSizes(pass: ActivationPass): Promise<Map<string, Float32Array>> {
  const sizes = new Map<string, Float32Array>()
  await showActivations(pass, ({ name, width }, values) => {
    if (!sizes.has(name)) sizes.set(name, new Float32Array(width))
    const own = sizes.get(name)!
    for (let i = 0; i < values.length; i++) {
      const size = Math.abs(values[i])
      if (size > own[i % width]) own[i % width] = size
    }
    return undefined
  })
  return sizes
}

/** The same of each channel of a seam. */
export function channelSizes(
  { channels, readers }: Seam,
  sizes: ReadonlyMap<string, Float32Array>,
): Float32Array {
  const largest = new Float32Array(channels)
  for (const { linear, channelOf } of readers) {
    for (const [column, size] of (sizes.get(linear.module) ?? []).entries()) {
      const channel = channelOf(column)
      largest[channel] = Math.max(largest[channel], size)
    }
  }
  return largest
}

/** The largest magnitude in the columns that read each channel and are to be rounded. */
export async function columnSizes({ channels, readers }: Seam, read: ReadWeight): Promise<Float32Array> {
  const largest = new Float32Array(channels)
  for (const { linear, channelOf, isRounded } of readers) {
    if (!isRounded) continue
    const values = await read(linear)
    for (let i = 0; i < values.length; i++) {
      const channel = channelOf(i % linear.cols)
      largest[channel] = Math.max(largest[channel], Math.abs(values[i]))
    }
  }
  return largest
}

/** The largest magnitude in the rows that make each channel. */
export async function rowSizes(
  channels: number,
  makers: readonly RowMaker[],
  read: ReadWeight,
): Promise<Float32Array> {
  const largest = new Float32Array(channels)
  for (const { linear, rowOf } of makers) {
    const values = await read(linear)
    for (let channel = 0; channel < channels; channel++) {
      const start = rowOf(channel) * linear.cols
      for (let at = start; at < start + linear.cols; at++) {
        largest[channel] = Math.max(largest[channel], Math.abs(values[at]))
      }
    }
  }
  return largest
}
