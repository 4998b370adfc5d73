import { throwIfAborted } from '../../errors.js'
import type { DecoderDescription, LinearDescription } from '../../model/decoder/description.js'
import { readTensor, type WeightSource } from '../../model/decoder/weights.js'
import { type ActivationPass, showActivations } from '../activations/collect-ranges.js'
import type { Calibration } from '../calibrate/calibration.js'
import { crossLayerFactors, powersOfTwo, smoothFactors } from './factors.js'
import type { EqualizationOptions } from './options.js'
import { openScalings, type Scalings } from './scaled-source.js'
import { type RowMaker, type Seam, seamsOf } from './seams.js'

/** What is equalized. */
export interface EqualizationTask {
  readonly source: WeightSource
  readonly config: DecoderDescription
  /** For `'smoothquant'`. */
  readonly calibration: Calibration | undefined
  readonly onProgress: (done: number) => void
  readonly signal: AbortSignal | undefined
}

/** A model that computes the same, with sizes moved between its tensors. */
export interface EqualizedModel {
  readonly source: WeightSource
  /** The tensors that are other ones now. */
  readonly changed: ReadonlySet<string>
  /** Places where sizes were moved. */
  readonly seams: number
}

/** Moves sizes at all seams of a model; its function stays. @throws CheckpointError, NumericError, AbortedError */
export async function equalizeModel(
  task: EqualizationTask,
  { equalization, equalizationStrength }: Required<EqualizationOptions>,
): Promise<EqualizedModel> {
  const { source, config, calibration, signal } = task
  const scalings = openScalings()
  const isSmooth = equalization === 'smoothquant'
  const sizes = isSmooth && calibration ? await inputSizes({ ...task, calibration }) : undefined
  let count = 0
  for (const block of config.blocks) {
    // without a text nothing is known of what a norm gives
    const seams = seamsOf(block).filter(
      ({ makers }) => isSmooth || makers.every((maker) => 'linear' in maker),
    )
    for (const seam of seams) {
      throwIfAborted(signal)
      const columns = await columnSizes(source, seam)
      const factors = sizes
        ? smoothFactors(channelSizes(seam, sizes), columns, equalizationStrength)
        : crossLayerFactors(await rowSizes(source, seam), columns)
      scaleSeam(seam, powersOfTwo(factors), scalings)
      count++
    }
  }
  return { source: scalings.source(source), changed: scalings.names, seams: count }
}

function scaleSeam({ makers, readers }: Seam, factors: Float32Array, scalings: Scalings): void {
  const inverse = factors.map((factor) => 1 / factor)
  for (const maker of makers) {
    if ('norm' in maker) {
      const { weights, biases, offset } = maker.norm
      for (const name of weights) scalings.addRows(name, inverse, offset)
      for (const name of biases) scalings.addRows(name, inverse)
      continue
    }
    const { module, rows, bias } = maker.linear
    const own = new Float32Array(rows).fill(1)
    for (const [channel, factor] of inverse.entries()) own[maker.rowOf(channel)] = factor
    scalings.addRows(`${module}.weight`, own)
    if (bias) scalings.addRows(`${module}.bias`, own)
  }
  for (const { linear, channelOf } of readers) {
    const own = Float32Array.from({ length: linear.cols }, (_, column) => factors[channelOf(column)])
    scalings.addColumns(`${linear.module}.weight`, own)
  }
}

/** The largest magnitude that each input of each layer has on the calibration text. */
async function inputSizes(pass: ActivationPass): Promise<Map<string, Float32Array>> {
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

function channelSizes({ channels, readers }: Seam, sizes: ReadonlyMap<string, Float32Array>): Float32Array {
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
async function columnSizes(source: WeightSource, { channels, readers }: Seam): Promise<Float32Array> {
  const largest = new Float32Array(channels)
  for (const { linear, channelOf, isRounded } of readers) {
    if (!isRounded) continue
    const values = await weightOf(source, linear)
    for (let i = 0; i < values.length; i++) {
      const channel = channelOf(i % linear.cols)
      largest[channel] = Math.max(largest[channel], Math.abs(values[i]))
    }
  }
  return largest
}

/** The largest magnitude in the rows that make each channel. */
async function rowSizes(source: WeightSource, { channels, makers }: Seam): Promise<Float32Array> {
  const largest = new Float32Array(channels)
  for (const { linear, rowOf } of makers as readonly RowMaker[]) {
    const values = await weightOf(source, linear)
    for (let channel = 0; channel < channels; channel++) {
      const start = rowOf(channel) * linear.cols
      for (let at = start; at < start + linear.cols; at++) {
        largest[channel] = Math.max(largest[channel], Math.abs(values[at]))
      }
    }
  }
  return largest
}

function weightOf(
  source: WeightSource,
  { module, rows, cols, kind }: LinearDescription,
): Promise<Float32Array> {
  return readTensor(source, `${module}.weight`, [rows, cols], `rows and columns of ${kind}`)
}
