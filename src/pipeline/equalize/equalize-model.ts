import { throwIfAborted } from '../../common/errors.js'
import { pacer } from '../../common/event-loop.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { linearLayers } from '../../model/decoder/linears.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { type ActivationPass, showActivations } from '../activations/collect-ranges.js'
import type { Calibration } from '../calibrate/calibration.js'
import { crossLayerFactors, powersOfTwo, smoothFactors } from './factors.js'
import { inputSampler } from './input-samples.js'
import type { EqualizationOptions } from './options.js'
import { openScalings, type Scalings } from './scaled-source.js'
import { type RowMaker, type Seam, seamsOf } from './seams.js'
import { searchBlock, type TrialRounding } from './search-block.js'
import { channelSizes, columnSizes, inputSizes, rowSizes, weightsFrom } from './sizes.js'

/** What is equalized. */
export interface EqualizationTask {
  readonly source: WeightSource
  readonly config: DecoderDescription
  /** For `'smoothquant'` and `'auto'`. */
  readonly calibration: Calibration | undefined
  readonly onProgress: (done: number) => void
  readonly signal: AbortSignal | undefined
  /** For `'auto'`. */
  readonly rounding: TrialRounding
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
  const { source, config, calibration, rounding, signal } = task
  if (equalization === 'auto') return searchModel({ ...task, calibration: calibration! }, rounding)
  const scalings = openScalings()
  const isSmooth = equalization === 'smoothquant'
  const sizes = isSmooth && calibration ? await inputSizes({ ...task, calibration }) : undefined
  const read = weightsFrom(source)
  let count = 0
  for (const block of config.blocks) {
    // without a text nothing is known of what a norm gives
    const seams = seamsOf(block).filter(
      ({ makers }) => isSmooth || makers.every((maker) => 'linear' in maker),
    )
    for (const seam of seams) {
      throwIfAborted(signal)
      const columns = await columnSizes(seam, read)
      const factors = sizes
        ? smoothFactors(channelSizes(seam, sizes), columns, equalizationStrength)
        : crossLayerFactors(await rowSizes(seam.channels, seam.makers as readonly RowMaker[], read), columns)
      scaleSeam(seam, powersOfTwo(factors), scalings)
      count++
    }
  }
  return { source: scalings.source(source), changed: scalings.names, seams: count }
}

/** Values of all inputs of a block that are kept at most, */
const SAMPLE_VALUES = 2 ** 24
/** and of a layer tokens. */
const SAMPLE_TOKENS = 256

async function searchModel(pass: ActivationPass, rounding: TrialRounding): Promise<EqualizedModel> {
  const { source, config, signal } = pass
  const scalings = openScalings()
  const pause = pacer(signal)
  let count = 0
  const tokens = new Map<string, number>()
  for (const index of config.blocks.keys()) {
    const rounded = linearLayers(config, index).filter(({ name }) => rounding.weightsOf(name))
    const most = Math.floor(SAMPLE_VALUES / rounded.reduce((sum, { cols }) => sum + cols, 1))
    for (const { name } of rounded)
      tokens.set(name.replace(/\.weight$/, ''), Math.max(1, Math.min(SAMPLE_TOKENS, most)))
  }
  const sampler = inputSampler((layer) => tokens.get(layer) ?? 0, 0)
  const onBlock = async (index: number) => {
    const seams = seamsOf(config.blocks[index])
    const found = await searchBlock({ source, seams, samples: sampler.take(), rounding, pause })
    for (const { seam, factors } of found) scaleSeam(seam, factors, scalings)
    count += found.length
  }
  await showActivations({ ...pass, onBlock }, sampler.onActivations)
  return { source: scalings.source(source), changed: scalings.names, seams: count }
}

function scaleSeam({ makers, readers }: Seam, factors: Float64Array, scalings: Scalings): void {
  const inverse = factors.map((factor) => 1 / factor)
  for (const maker of makers) {
    if ('norm' in maker) {
      const { weights, biases, offset } = maker.norm
      for (const name of weights) scalings.addRows(name, inverse, offset)
      for (const name of biases) scalings.addRows(name, inverse)
      continue
    }
    const { module, rows, bias } = maker.linear
    const own = new Float64Array(rows).fill(1)
    for (const [channel, factor] of inverse.entries()) own[maker.rowOf(channel)] = factor
    scalings.addRows(`${module}.weight`, own)
    if (bias) scalings.addRows(`${module}.bias`, own)
  }
  for (const { linear, channelOf } of readers) {
    const own = Float64Array.from({ length: linear.cols }, (_, column) => factors[channelOf(column)])
    scalings.addColumns(`${linear.module}.weight`, own)
  }
}
