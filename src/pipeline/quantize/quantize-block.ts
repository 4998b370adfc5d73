import { quantizeGptq } from '../../baselines/gptq.js'
import { quantizeRtn } from '../../baselines/rtn.js'
import { ShapeError, throwIfAborted } from '../../errors.js'
import { turnOfEventLoop } from '../../event-loop.js'
import { correctDrift, type DriftMove } from '../../gptvq/drift-correction.js'
import { quantizeLayer } from '../../gptvq/quantize-layer.js'
import { reconstructionError } from '../../gptvq/reconstruction-error.js'
import { ownFactors, type SharedFactors, shareFactors } from '../../inverse-factor.js'
import { type Matrix, matrix } from '../../matrix.js'
import { type Block, loadedWeight } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { type LinearLayer, linearLayers } from '../../model/decoder/linears.js'
import { readTensor, type WeightSource } from '../../model/decoder/weights.js'
import { dequantize, pack, type QuantizedLayer } from '../../packing/quantized-layer.js'
import type { InputStatistics } from '../calibrate/input-statistics.js'
import type { LayerBits } from '../mixed/options.js'
import type { PartProgress } from '../progress.js'
import { stopwatch } from '../stopwatch.js'
import type { LayerOrderOptions } from './layer-order.js'
import type { LayerPlan } from './layer-plan.js'
import { type LayerReport, layerReport } from './layer-report.js'
import type { MethodSettings } from './quantize-options.js'

/** Receives each layer as soon as it is quantized. */
export type OnQuantized = (linear: LinearLayer, layer: QuantizedLayer, report: LayerReport) => Promise<void>

/** One block to be quantized. */
export interface BlockWork {
  readonly weights: WeightSource
  readonly config: DecoderDescription
  readonly index: number
  /** The block in full precision, where it is in memory: its weights are not read again. */
  readonly original?: Block
  readonly plan: LayerPlan
  readonly order: Required<LayerOrderOptions>
  /** What a layer is quantized with besides the settings of the plan, by the name of its weight. */
  readonly layerBits?: ReadonlyMap<string, LayerBits> | undefined
  readonly deliver: OnQuantized
  readonly onProgress: PartProgress
  readonly signal: AbortSignal | undefined
}

/** Whether any layer of a stage is to be quantized. */
export function quantizesAny({ plan }: BlockWork, { linears }: Stage): boolean {
  return linears.some(({ module }) => plan.settingsOf(`${module}.weight`) !== undefined)
}

/**
 * Quantizes the linear layers of a block that `statistics` speaks of, one after the other. It is undefined for RTN,
 * which needs none; then all are quantized.
 */
export async function quantizeBlock(
  work: BlockWork,
  statistics: ReadonlyMap<string, InputStatistics> | undefined,
): Promise<void> {
  const { plan, deliver, onProgress, signal } = work
  const linears = linearLayers(work.config, work.index).filter(
    ({ kind, name }) => (statistics?.has(kind) ?? true) && plan.settingsOf(name) !== undefined,
  )
  const total = linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const factorsOf = factorsInTurn(linears.map(({ kind }) => statistics?.get(kind)))
  let before = 0
  for (const linear of linears) {
    const { name, kind, rows, cols } = linear
    const progress = (done: number) => onProgress(`quantizing ${kind}`, (before + done * rows * cols) / total)
    progress(0)
    await turnOfEventLoop()
    throwIfAborted(signal)
    const weight = await weightOf(work, linear)
    const inputs = statistics?.get(kind)
    const lap = stopwatch()
    const task: LinearTask = { name, factors: factorsOf(inputs), ...(signal && { signal }) }
    const { target, drift } = await targetOf(weight, inputs, work.order.driftCorrection, task)
    const settings = plan.settingsOf(name)!
    const own = work.layerBits?.get(name)
    const layer = await quantizeLinear(target, inputs, settings, own, progress, task)
    const seconds = lap()
    const relativeError = inputs
      ? reconstructionError(target, dequantize(layer), inputs.hessian, name).relative
      : null
    const seen = { tokens: inputs?.tokens ?? null, pooled: inputs?.pooled ?? null }
    const measured = { relativeError, drift, ...seen, seconds }
    const report = layerReport(name.replace(/\.weight$/, ''), pack(layer), measured)
    await deliver(linear, layer, report)
    before += rows * cols
  }
}

/** How one layer is named, and what it shares with others. */
export interface LinearTask {
  readonly name: string
  readonly factors: SharedFactors
  readonly signal?: AbortSignal
}

async function weightOf(
  { weights, original }: BlockWork,
  { name, kind, rows, cols }: LinearLayer,
): Promise<Matrix> {
  const loaded = original && loadedWeight(original, kind)
  const values = loaded ?? (await readTensor(weights, name, [rows, cols], 'the shape of the layer'))
  return matrix(rows, cols, values)
}

/** Factors for layers that follow each other and share their Hessian; in memory until a layer comes with another. */
function factorsInTurn(layers: readonly (InputStatistics | undefined)[]) {
  let shared: InputStatistics | undefined
  let factors = ownFactors
  return (inputs: InputStatistics | undefined): SharedFactors => {
    if (inputs === shared) return factors
    shared = inputs
    const isShared = inputs !== undefined && layers.indexOf(inputs) !== layers.lastIndexOf(inputs)
    factors = isShared ? shareFactors() : ownFactors
    return factors
  }
}

/** What a layer is quantized towards: its weights, corrected for the drift of its surroundings where that is known. */
export async function targetOf(
  weight: Matrix,
  inputs: InputStatistics | undefined,
  share: number,
  task: LinearTask,
): Promise<{ target: Matrix; drift: DriftMove | null }> {
  if (inputs?.drift === undefined) return { target: weight, drift: null }
  const { weight: target, ...drift } = await correctDrift(weight, inputs.hessian, inputs.drift, {
    share,
    ...task,
  })
  return { target, drift }
}

/** Quantizes one layer by the method of its settings. */
export async function quantizeLinear(
  weight: Matrix,
  inputs: InputStatistics | undefined,
  settings: MethodSettings,
  layerBits: LayerBits | undefined,
  onProgress: (done: number) => void,
  task: LinearTask,
): Promise<QuantizedLayer> {
  const { name } = task
  if (settings.method === 'rtn') return quantizeRtn(weight, settings.options, name)
  if (inputs === undefined)
    throw new ShapeError(`${name}: method ${settings.method} needs a Hessian, none was given`)
  if (settings.method === 'gptq')
    return quantizeGptq(weight, inputs.hessian, { ...settings.options, ...task })
  const { hessian, tokens, pooled } = inputs
  // what an expert lacks comes from the tokens of all
  const known = pooled ? {} : { tokens }
  return quantizeLayer(weight, hessian, {
    ...settings.options,
    ...layerBits,
    ...task,
    ...known,
    onProgress,
  })
}
