import { quantizeRtn } from '../../baselines/rtn.js'
import { throwIfAborted } from '../../common/errors.js'
import { turnOfEventLoop } from '../../common/event-loop.js'
import { diagonalMatrix, matrix } from '../../common/matrix.js'
import { assertTensorShape, readRows, type WeightSource } from '../../model/decoder/weights.js'
import { pack, type QuantizedLayer } from '../../packing/quantized-layer.js'
import { groupsPerRow, type ScalarLayer } from '../../packing/scalar-layer.js'
import type { InputStatistics } from '../calibrate/statistics/stage-sums.js'
import type { PartProgress } from '../progress.js'
import { stopwatch } from '../stopwatch.js'
import { type EndTensor, seesText } from './end-tensors.js'
import { type LayerReport, layerReport } from './layers/layer-report.js'
import { type LayerRunner, quantizeHere } from './layers/layer-work.js'
import { type MethodSettings, resolveMethod } from './quantize-options.js'

/** Embedding and head, to be quantized. */
export interface EndsWork {
  readonly weights: WeightSource
  readonly tensors: readonly EndTensor[]
  readonly seed: number
  /** What the head sees on the calibration text; asked for at most once, where a tensor {@link seesText}. */
  headInputs(): Promise<InputStatistics>
  /** Does the work of GPTVQ elsewhere; undefined: it is done here. */
  readonly runLayer?: LayerRunner | undefined
  readonly signal: AbortSignal | undefined
  /** Is given what is being done, and the share of it that is done. */
  readonly onProgress: PartProgress
}

/** How vectors are quantized: as layers are by default. */
export function endSettings(bits: number, seed: number): MethodSettings {
  return resolveMethod('gptvq', { bits, seed })
}

/** Weights that share a scale and a zero point: half a bit more per value at 4 bits, a fifth at 8. */
export const GROUP_SIZE = 64

/** Share of the identity in the Hessian of a tensor that is looked up and multiplied by (docs/models.md). */
export const LOOKED_UP_SHARE = 0.5

/** What rounding tells of a tensor: it sees no calibration. */
const unmeasured = { relativeError: null, drift: null, tokens: null, pooled: null, zeros: null }

/** Weights that are rounded between two turns of the event loop; no more of them are in memory as floats. */
const SLAB_VALUES = 2 ** 20

/** Quantizes the tensors one after the other. */
export async function quantizeEndTensors(
  work: EndsWork,
  deliver: (name: string, layer: QuantizedLayer, report: LayerReport) => Promise<void>,
): Promise<void> {
  const { weights, tensors, signal } = work
  let head: Promise<InputStatistics> | undefined
  for (const [i, tensor] of tensors.entries()) {
    const { name, rows, cols, method } = tensor
    const module = name.replace(/\.weight$/, '')
    assertTensorShape(weights, name, [rows, cols], 'vocab_size and hidden_size')
    const onProgress = (done: number) =>
      work.onProgress(
        `${method === 'rtn' ? 'rounding' : 'quantizing'} ${module}`,
        (i + done) / tensors.length,
      )
    if (method === 'rtn') {
      const lap = stopwatch()
      const layer = await roundRows(weights, tensor, signal, onProgress)
      await deliver(name, layer, layerReport(module, pack(layer), { ...unmeasured, seconds: lap() }))
      continue
    }
    if (seesText(tensor)) head ??= work.headInputs()
    const { layer, relativeError, seconds } = await quantizeVectors(work, tensor, await head, onProgress)
    const tokens = seesText(tensor) ? ((await head)?.tokens ?? null) : null
    const measured = { ...unmeasured, relativeError, tokens, seconds }
    await deliver(name, layer, layerReport(module, pack(layer), measured))
  }
}

async function quantizeVectors(
  { weights, seed, signal, runLayer = quantizeHere }: EndsWork,
  { name, rows, cols, bits, use }: EndTensor,
  head: InputStatistics | undefined,
  onProgress: (done: number) => void,
) {
  onProgress(0)
  await turnOfEventLoop()
  throwIfAborted(signal)
  const weight = matrix(rows, cols, await readRows(weights, name, 0, rows))
  const inputs = inputsOf(use, cols, head)
  const work = { name, weight, inputs, settings: endSettings(bits, seed), driftShare: 0 }
  return runLayer(work, { onProgress, signal })
}

/** What a tensor is quantized on: all directions alike where it is looked up, those of hidden states as the head. */
export function inputsOf(
  use: EndTensor['use'],
  cols: number,
  head: InputStatistics | undefined,
): InputStatistics {
  if (use === 'head') return head!
  // all directions count alike; no tokens of its own that could be too few
  const looked = { hessian: diagonalMatrix(cols, 2), tokens: 0, pooled: 1 }
  if (use === 'embedding' || head === undefined) return looked
  const { hessian, tokens } = head
  let trace = 0
  for (let i = 0; i < cols; i++) trace += hessian.data[i * (cols + 1)]
  const scale = trace > 0 ? (2 * cols * (1 - LOOKED_UP_SHARE)) / trace : 0
  const data = looked.hessian.data.map((value, i) => LOOKED_UP_SHARE * value + scale * hessian.data[i])
  return { hessian: matrix(cols, cols, data), tokens, pooled: LOOKED_UP_SHARE }
}

/** Rounds a tensor some rows at a time: an embedding may be larger than all layers of a block. */
async function roundRows(
  weights: WeightSource,
  { name, rows, cols, bits }: EndTensor,
  signal: AbortSignal | undefined,
  onProgress: (done: number) => void,
): Promise<ScalarLayer> {
  const slab = Math.max(1, Math.floor(SLAB_VALUES / cols))
  const groups = groupsPerRow(cols, GROUP_SIZE)
  const codes = new Uint8Array(rows * cols)
  const scales = new Uint16Array(rows * groups)
  const zeros = new Uint8Array(rows * groups)
  for (let first = 0; first < rows; first += slab) {
    onProgress(first / rows)
    await turnOfEventLoop()
    throwIfAborted(signal)
    const count = Math.min(slab, rows - first)
    const values = matrix(count, cols, await readRows(weights, name, first, count))
    const part = quantizeRtn(values, { bits, groupSize: GROUP_SIZE }, `${name} from row ${first}`)
    codes.set(part.codes, first * cols)
    scales.set(part.scales, first * groups)
    zeros.set(part.zeros, first * groups)
  }
  return { rows, cols, bits, groupSize: GROUP_SIZE, codes, scales, zeros }
}
