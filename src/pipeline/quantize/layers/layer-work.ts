import { quantizeGptq } from '../../../baselines/gptq.js'
import { quantizeRtn } from '../../../baselines/rtn.js'
import { ShapeError } from '../../../common/errors.js'
import type { Matrix } from '../../../common/matrix.js'
import { correctDrift, type DriftMove } from '../../../gptvq/drift-correction.js'
import { quantizeLayer } from '../../../gptvq/quantize-layer.js'
import { reconstructionError } from '../../../gptvq/reconstruction-error.js'
import { ownFactors, type SharedFactors } from '../../../hessian/inverse-factor.js'
import { dequantize, type QuantizedLayer } from '../../../packing/quantized-layer.js'
import type { InputStatistics } from '../../calibrate/statistics/stage-sums.js'
import type { LayerBits } from '../../mixed/options.js'
import { stopwatch } from '../../stopwatch.js'
import type { MethodSettings } from '../quantize-options.js'

/** All that quantizing one layer takes; plain data, so that it can be done anywhere. */
export interface LayerWork {
  /** Of its weight. */
  readonly name: string
  /** out x in. */
  readonly weight: Matrix
  /** Undefined for RTN, which needs none. */
  readonly inputs: InputStatistics | undefined
  readonly settings: Pick<MethodSettings, 'method' | 'options'>
  readonly layerBits?: LayerBits | undefined
  /** Share of its drift that a layer makes up for. */
  readonly driftShare: number
}

/** What became of it. */
export interface LayerResult {
  readonly layer: QuantizedLayer
  readonly relativeError: number | null
  readonly drift: DriftMove | null
  /** Time that drift correction and quantizing took. */
  readonly seconds: number
}

/** How the work is watched, and what it shares with other layers of the same statistics. */
export interface LayerWatch {
  readonly onProgress?: (done: number) => void
  readonly signal?: AbortSignal | undefined
  readonly factors?: SharedFactors
}

/** Does a layer's work, here or elsewhere. */
export type LayerRunner = (work: LayerWork, watch: LayerWatch) => Promise<LayerResult>

/** Does the work in this process. */
export const quantizeHere: LayerRunner = async (work, { onProgress = () => {}, signal, factors }) => {
  const { name, inputs } = work
  const lap = stopwatch()
  const task: LinearTask = { name, factors: factors ?? ownFactors, ...(signal && { signal }) }
  const { target, drift } = await targetOf(work, task)
  const layer = await quantizeLinear(target, work, onProgress, task)
  const seconds = lap()
  const relativeError = inputs
    ? reconstructionError(target, dequantize(layer), inputs.hessian, name).relative
    : null
  return { layer, relativeError, drift, seconds }
}

/** How one layer is named, and what it shares with others. */
interface LinearTask {
  readonly name: string
  readonly factors: SharedFactors
  readonly signal?: AbortSignal
}

/** What a layer is quantized towards: its weights, corrected for the drift of its surroundings where that is known. */
async function targetOf(
  { weight, inputs, driftShare: share }: LayerWork,
  task: LinearTask,
): Promise<{ target: Matrix; drift: DriftMove | null }> {
  if (inputs?.drift === undefined) return { target: weight, drift: null }
  const options = { share, ...task }
  const { weight: target, ...drift } = await correctDrift(weight, inputs.hessian, inputs.drift, options)
  return { target, drift }
}

async function quantizeLinear(
  weight: Matrix,
  { inputs, settings, layerBits }: LayerWork,
  onProgress: (done: number) => void,
  task: LinearTask,
): Promise<QuantizedLayer> {
  const { name } = task
  const { method, options } = settings as MethodSettings
  if (method === 'rtn') {
    const { damping: _, ...grid } = options
    return quantizeRtn(weight, { ...grid, ...(inputs && { hessian: inputs.hessian }) }, name)
  }
  if (inputs === undefined) throw new ShapeError(`${name}: method ${method} needs a Hessian, none was given`)
  if (method === 'gptq') return quantizeGptq(weight, inputs.hessian, { ...options, ...task })
  const own = { ...options, ...layerBits, ...task, ...knownTokens(inputs), onProgress }
  return quantizeLayer(weight, inputs.hessian, own)
}

/** An expert counts as having seen a token for so many of its inputs at least: the tokens of all show the rest. */
const INPUTS_PER_TOKEN = 4

/**
 * The tokens that a Hessian stands for, as `quantizeLayer` is told. For an expert they are those that are routed to it, not
 * the pool's: what the pool shows is how other tokens look, and a descent on it fits these.
 */
export function knownTokens({ hessian, tokens, pooled }: InputStatistics): { readonly tokens: number } {
  const least = pooled === undefined ? 1 : Math.ceil(hessian.cols / INPUTS_PER_TOKEN)
  return { tokens: Math.max(tokens, least) }
}
