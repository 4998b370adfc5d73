import { quantizeGptq } from '../baselines/gptq.js'
import { quantizeRtn } from '../baselines/rtn.js'
import { ShapeError, throwIfAborted } from '../errors.js'
import { turnOfEventLoop } from '../event-loop.js'
import { correctDrift, type DriftMove } from '../gptvq/drift-correction.js'
import { quantizeLayer } from '../gptvq/quantize-layer.js'
import { reconstructionError } from '../gptvq/reconstruction-error.js'
import { type Matrix, matrix } from '../matrix.js'
import type { LlamaConfig } from '../model/config.js'
import { type LinearKind, type LinearLayer, linearLayers } from '../model/linears.js'
import { readTensor, type WeightSource } from '../model/weights.js'
import { dequantize, pack, type QuantizedLayer } from '../packing/quantized-layer.js'
import type { InputStatistics } from './input-statistics.js'
import type { LayerBits } from './mixed/options.js'
import type { PartProgress } from './progress.js'
import type { MethodSettings } from './quantize-options.js'
import { type LayerReport, layerReport } from './report.js'
import { stopwatch } from './stopwatch.js'

/** Receives each layer as soon as it is quantized, and the weights that it stands for. */
export type OnQuantized = (
  linear: LinearLayer,
  layer: QuantizedLayer,
  report: LayerReport,
  values: Matrix,
) => Promise<void>

/** One block to be quantized. */
export interface BlockWork {
  readonly weights: WeightSource
  readonly config: LlamaConfig
  readonly index: number
  readonly settings: MethodSettings
  /** What a layer is quantized with besides the settings that all share, by the name of its weight. */
  readonly layerBits?: ReadonlyMap<string, LayerBits> | undefined
  readonly deliver: OnQuantized
  readonly onProgress: PartProgress
  readonly signal: AbortSignal | undefined
}

/**
 * Quantizes the linear layers of a block that `statistics` speaks of, one after the other. It is undefined for RTN,
 * which needs none; then all are quantized.
 */
export async function quantizeBlock(
  work: BlockWork,
  statistics: ReadonlyMap<LinearKind, InputStatistics> | undefined,
): Promise<void> {
  const { weights, settings, deliver, onProgress, signal } = work
  const linears = linearLayers(work.config, work.index).filter(({ kind }) => statistics?.has(kind) ?? true)
  const total = linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  let before = 0
  for (const linear of linears) {
    const { name, kind, rows, cols } = linear
    const progress = (done: number) => onProgress(`quantizing ${kind}`, (before + done * rows * cols) / total)
    progress(0)
    await turnOfEventLoop()
    throwIfAborted(signal)
    const weight = matrix(rows, cols, await readTensor(weights, name, [rows, cols], 'the shape of the layer'))
    const inputs = statistics?.get(kind)
    const lap = stopwatch()
    const { target, drift } = await targetOf(weight, inputs, settings.order.driftCorrection, name, signal)
    const layer = await quantizeLinear(name, target, inputs?.hessian, work, progress)
    const seconds = lap()
    const values = dequantize(layer)
    const relativeError = inputs ? reconstructionError(target, values, inputs.hessian).relative : null
    const report = layerReport(name.replace(/\.weight$/, ''), pack(layer), { relativeError, drift, seconds })
    await deliver(linear, layer, report, values)
    before += rows * cols
  }
}

/** What a layer is quantized towards: its weights, corrected for the drift of its surroundings where that is known. */
async function targetOf(
  weight: Matrix,
  inputs: InputStatistics | undefined,
  share: number,
  name: string,
  signal: AbortSignal | undefined,
): Promise<{ target: Matrix; drift: DriftMove | null }> {
  if (inputs?.drift === undefined) return { target: weight, drift: null }
  const options = { share, name, ...(signal && { signal }) }
  const { weight: target, ...drift } = await correctDrift(weight, inputs.hessian, inputs.drift, options)
  return { target, drift }
}

async function quantizeLinear(
  name: string,
  weight: Matrix,
  hessian: Matrix | undefined,
  { settings, layerBits, signal }: BlockWork,
  onProgress: (done: number) => void,
): Promise<QuantizedLayer> {
  if (settings.method === 'rtn') return quantizeRtn(weight, settings.options, name)
  if (hessian === undefined)
    throw new ShapeError(`${name}: method ${settings.method} needs a Hessian, none was given`)
  const task = { name, onProgress, ...(signal && { signal }) }
  if (settings.method === 'gptq') return quantizeGptq(weight, hessian, { ...settings.options, ...task })
  return quantizeLayer(weight, hessian, { ...settings.options, ...layerBits?.get(name), ...task })
}
