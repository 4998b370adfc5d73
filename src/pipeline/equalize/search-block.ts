import type { ScalarOptions } from '../../baselines/scalar-options.js'
import { matrix } from '../../common/matrix.js'
import type { LinearDescription } from '../../model/decoder/description.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import type { ActivationSettings } from '../activations/options.js'
import { crossLayerFactors, evenedFactors, powersOfTwo, shortFactors } from './factors.js'
import type { InputSample } from './input-samples.js'
import { type LayerFactors, roundingError, type SampledLayer, sampledLayer } from './rounding-error.js'
import type { NormMaker, RowMaker, Seam } from './seams.js'
import { channelSizes, columnSizes, keepingWeights, type ReadWeight, rowSizes, weightsFrom } from './sizes.js'

/** How layers will be rounded, which is what a search weighs. */
export interface TrialRounding {
  /** Of the weight of this name; undefined: it stays as it is. */
  weightsOf(name: string): ScalarOptions | undefined
  /** Undefined: inputs stay as they are. */
  readonly activations: ActivationSettings | undefined
}

/** A block that was run on a text. */
export interface SampledBlock {
  readonly source: WeightSource
  readonly seams: readonly Seam[]
  readonly samples: ReadonlyMap<string, InputSample>
  readonly rounding: TrialRounding
  readonly pause: () => Promise<void>
}

/** Factors of a seam. */
export interface SeamFactors {
  readonly seam: Seam
  /** By which channels are divided. */
  readonly factors: Float64Array
}

/** Exponents of the sizes of inputs and of weights that are tried. */
const EXPONENTS = [
  [0.125, 0.125],
  [0.25, 0.25],
  [0.25, 0.75],
  [0.5, 0.25],
  [0.5, 0.5],
  [0.75, 0.25],
] as const

/** A layer, and what its rows and columns are multiplied by so far. */
interface TrialLayer {
  readonly sampled: SampledLayer
  scaled: LayerFactors
}

/** A layer of a seam, and how it is scaled with factors there. */
interface Trial {
  readonly layer: TrialLayer
  with(factors: Float64Array): LayerFactors
}

/**
 * Finds factors for the seams of a block, one after the other: of several the ones by which the outputs of the layers
 * there are off least when weights and inputs are rounded. Seams where none do better than any are left out.
 */
export async function searchBlock(block: SampledBlock): Promise<SeamFactors[]> {
  const read = keepingWeights(weightsFrom(block.source))
  const open = layersOf(block, read)
  const found: SeamFactors[] = []
  for (const seam of block.seams) {
    const trials = await trialsOf(seam, open)
    if (trials.length === 0) continue
    const errorWith = (factors: Float64Array) =>
      trials.reduce((sum, trial) => {
        const { sampled } = trial.layer
        return sum + roundingError(sampled, trial.with(factors), block.rounding.activations)
      }, 0)
    let best: Float64Array | undefined
    let least = errorWith(new Float64Array(seam.channels).fill(1))
    for (const factors of await candidatesOf(seam, block, read)) {
      await block.pause()
      const error = errorWith(factors)
      if (error < least) [best, least] = [factors, error]
    }
    if (best === undefined) continue
    for (const trial of trials) trial.layer.scaled = trial.with(best)
    found.push({ seam, factors: best })
  }
  return found
}

type OpenLayer = (linear: LinearDescription) => Promise<TrialLayer | undefined>

/** The layers of a block that are rounded and were reached by tokens. */
function layersOf({ samples, rounding }: SampledBlock, read: ReadWeight): OpenLayer {
  const layers = new Map<string, TrialLayer>()
  return async (linear) => {
    const { module, rows, cols } = linear
    const name = `${module}.weight`
    const options = rounding.weightsOf(name)
    const sample = samples.get(module)
    if (options === undefined || sample === undefined) return undefined
    if (!layers.has(module)) {
      const weight = matrix(rows, cols, await read(linear))
      const sampled = sampledLayer({ name, weight, options: standIn(options), sample })
      const scaled = { rows: new Float64Array(rows).fill(1), columns: new Float64Array(cols).fill(1) }
      layers.set(module, { sampled, scaled })
    }
    return layers.get(module)
  }
}

/** The search by outputs takes a Hessian of all tokens; by weights it finds nearly the same scales. */
function standIn(options: ScalarOptions): ScalarOptions {
  return options.scaleSearch === 'sequential-mse' ? { ...options, scaleSearch: 'mse' } : options
}

/** What of a seam is rounded. */
async function trialsOf({ makers, readers }: Seam, open: OpenLayer): Promise<Trial[]> {
  const trials: Trial[] = []
  for (const { linear, channelOf, isRounded } of readers) {
    const layer = isRounded ? await open(linear) : undefined
    if (layer === undefined) continue
    const withFactors = (factors: Float64Array) => ({
      rows: layer.scaled.rows,
      columns: layer.scaled.columns.map((factor, column) => factor * factors[channelOf(column)]),
    })
    trials.push({ layer, with: withFactors })
  }
  for (const maker of makers.filter(isRowMaker)) {
    const layer = trials.length > 0 ? await open(maker.linear) : undefined
    // where each row has a scale of its own, its size means nothing
    if (layer?.sampled.options.granularity !== 'tensor') continue
    const withFactors = (factors: Float64Array) => {
      const rows = layer.scaled.rows.slice()
      for (const [channel, factor] of factors.entries()) rows[maker.rowOf(channel)] /= factor
      return { rows, columns: layer.scaled.columns }
    }
    trials.push({ layer, with: withFactors })
  }
  return trials
}

const isRowMaker = (maker: NormMaker | RowMaker): maker is RowMaker => 'linear' in maker

/** Factors by the sizes of inputs and weights, and where layers make the channels by those of their rows. */
async function candidatesOf(seam: Seam, block: SampledBlock, read: ReadWeight): Promise<Float64Array[]> {
  const { samples } = block
  const largest = new Map(
    Array.from(samples, ([name, { low, high }]) => [name, high.map((most, j) => Math.max(most, -low[j]))]),
  )
  const inputs = channelSizes(seam, largest)
  const columns = await columnSizes(seam, read)
  const candidates = EXPONENTS.map(([a, b]) => evenedFactors(inputs, columns, a, b))
  if (seam.makers.every(isRowMaker)) {
    candidates.push(crossLayerFactors(await rowSizes(seam.channels, seam.makers, read), columns))
  }
  const fit = await fitting(seam, block)
  return candidates.map(fit)
}

/**
 * How factors are made to fit what they scale, so that no digit is lost where a tensor is stored as it is: powers of two
 * always do. A norm alone can have others, by which its weights come to numbers of few digits; and to layers that are
 * rounded digits mean nothing.
 */
async function fitting(
  { makers, readers }: Seam,
  { source, rounding }: SampledBlock,
): Promise<(factors: Float64Array) => Float64Array> {
  const isRounded = ({ module, bias }: LinearDescription) =>
    !bias && rounding.weightsOf(`${module}.weight`) !== undefined
  if (!readers.every((reader) => reader.isRounded && rounding.weightsOf(`${reader.linear.module}.weight`))) {
    return powersOfTwo
  }
  if (makers.every((maker) => isRowMaker(maker) && isRounded(maker.linear))) return (factors) => factors
  const [maker] = makers
  if (makers.length > 1 || isRowMaker(maker) || maker.norm.biases.length > 0) return powersOfTwo
  const { weights, offset } = maker.norm
  const values = await source.floats(weights[0])
  return (factors) => shortFactors(factors, values, offset)
}
