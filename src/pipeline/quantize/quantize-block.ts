import { throwIfAborted } from '../../common/errors.js'
import { turnOfEventLoop } from '../../common/event-loop.js'
import { type Matrix, matrix } from '../../common/matrix.js'
import { ownFactors, type SharedFactors, shareFactors } from '../../hessian/inverse-factor.js'
import { type Block, loadedWeight } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { type LinearLayer, linearLayers } from '../../model/decoder/linears.js'
import { readTensor, type WeightSource } from '../../model/decoder/weights.js'
import { pack, type QuantizedLayer } from '../../packing/quantized-layer.js'
import type { StageRunner } from '../calibrate/stage-runner.js'
import type { InputStatistics } from '../calibrate/statistics/stage-sums.js'
import type { LayerBits } from '../mixed/options.js'
import type { PartProgress } from '../progress.js'
import type { LayerOrderOptions } from './layers/layer-order.js'
import type { LayerPlan } from './layers/layer-plan.js'
import { type LayerReport, layerReport } from './layers/layer-report.js'
import { type LayerResult, type LayerRunner, type LayerWork, quantizeHere } from './layers/layer-work.js'

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
  /** Does the work of a layer elsewhere, several at once; undefined: it is done here. */
  readonly runLayer?: LayerRunner | undefined
  /** Takes the calibration tokens through stages elsewhere; undefined: it is done here. */
  readonly runStage?: StageRunner | undefined
  readonly deliver: OnQuantized
  readonly onProgress: PartProgress
  readonly signal: AbortSignal | undefined
}

/** Whether any layer of a stage is to be quantized. */
export function quantizesAny({ plan }: BlockWork, { linears }: Stage): boolean {
  return linears.some(({ module }) => plan.settingsOf(`${module}.weight`) !== undefined)
}

/**
 * Quantizes the linear layers of a block that `statistics` speaks of, and delivers them in their order. It is undefined
 * for RTN, which needs none; then all are quantized.
 */
export async function quantizeBlock(
  work: BlockWork,
  statistics: ReadonlyMap<string, InputStatistics> | undefined,
): Promise<void> {
  const linears = linearLayers(work.config, work.index).filter(
    ({ kind, name }) => (statistics?.has(kind) ?? true) && work.plan.settingsOf(name) !== undefined,
  )
  const progress = blockProgress(linears, work.onProgress)
  const factorsOf = factorsInTurn(linears.map(({ kind }) => statistics?.get(kind)))
  const begin = (linear: LinearLayer) => {
    const inputs = statistics?.get(linear.kind)
    return quantizeOne(work, linear, inputs, factorsOf(inputs), progress(linear))
  }
  // elsewhere all at once, here one after the other
  const away = work.runLayer && linears.map(begin)
  // what fails while another is waited for is looked at in its turn
  for (const result of away ?? []) result.catch(() => {})
  for (const [i, linear] of linears.entries()) {
    const inputs = statistics?.get(linear.kind)
    const { layer, relativeError, drift, seconds, zeros } = await (away?.[i] ?? begin(linear))
    const seen = { tokens: inputs?.tokens ?? null, pooled: inputs?.pooled ?? null }
    const module = linear.name.replace(/\.weight$/, '')
    const report = layerReport(module, pack(layer), { relativeError, drift, ...seen, zeros, seconds })
    await work.deliver(linear, layer, report)
  }
}

async function quantizeOne(
  work: BlockWork,
  linear: LinearLayer,
  inputs: InputStatistics | undefined,
  factors: SharedFactors,
  onProgress: (done: number) => void,
): Promise<LayerResult & Pick<LayerReport, 'zeros'>> {
  const { name } = linear
  const { plan, layerBits, order, signal, runLayer = quantizeHere } = work
  onProgress(0)
  await turnOfEventLoop()
  throwIfAborted(signal)
  const weight = await weightOf(work, linear)
  // counted first: work that is done elsewhere may take the weights with it
  const zeros = shareOfZeros(weight)
  const task: LayerWork = {
    name,
    weight,
    inputs,
    settings: plan.settingsOf(name)!,
    layerBits: layerBits?.get(name),
    driftShare: order.driftCorrection,
  }
  return { ...(await runLayer(task, { onProgress, signal, factors })), zeros }
}

function shareOfZeros({ data }: Matrix): number {
  let count = 0
  for (const value of data) if (value === 0) count++
  return count / data.length
}

/** Adds up how far the layers of a block are, each by its size. */
function blockProgress(linears: readonly LinearLayer[], onProgress: PartProgress) {
  const total = linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const shares = new Map<LinearLayer, number>()
  return (linear: LinearLayer) => (done: number) => {
    shares.set(linear, (done * linear.rows * linear.cols) / total)
    onProgress(
      `quantizing ${linear.kind}`,
      Array.from(shares.values()).reduce((sum, share) => sum + share, 0),
    )
  }
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
