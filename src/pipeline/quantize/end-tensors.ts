import { quantizeRtn } from '../../baselines/rtn.js'
import { requireOneOf } from '../../check-option.js'
import { OptionError, throwIfAborted } from '../../errors.js'
import { turnOfEventLoop } from '../../event-loop.js'
import { matrix } from '../../matrix.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { assertTensorShape, readRows, type WeightSource } from '../../model/decoder/weights.js'
import { pack } from '../../packing/quantized-layer.js'
import { groupsPerRow, type ScalarLayer } from '../../packing/scalar-layer.js'
import type { PartProgress } from '../progress.js'
import { stopwatch } from '../stopwatch.js'
import { type LayerReport, layerReport } from './layers/layer-report.js'

/** Whether what is in front of the blocks and behind them is quantized too: on small models it is half of the bytes. */
export interface EndTensorOptions {
  /** Bits of the input embedding, 4 or 8, rounded by groups of 64 values; default: it stays as it is. */
  embeddingBits?: 4 | 8
  /** The same for the output projection. One that is tied to the embedding is the embedding: set that. */
  headBits?: 4 | 8
}

/** A tensor to round. */
export interface EndTensor {
  readonly name: string
  readonly rows: number
  readonly cols: number
  readonly bits: number
}

/** Weights that share a scale and a zero point: half a bit more per value at 4 bits, a fifth at 8. */
export const GROUP_SIZE = 64

/** The tensors that the options ask for. @throws OptionError */
export function endTensors(
  { embedding, head, vocabSize: rows, hiddenSize: cols }: DecoderDescription,
  { embeddingBits, headBits }: EndTensorOptions,
): EndTensor[] {
  if (embeddingBits !== undefined) requireOneOf('embeddingBits', embeddingBits, [4, 8])
  if (headBits !== undefined) requireOneOf('headBits', headBits, [4, 8])
  const tied = head.tensor === embedding.tensor
  if (tied && headBits !== undefined && headBits !== embeddingBits) {
    throw new OptionError(
      'headBits',
      `the model's head is its embedding (tie_word_embeddings); set embeddingBits to ${headBits} instead`,
    )
  }
  const tensors: EndTensor[] = []
  if (embeddingBits !== undefined) tensors.push({ name: embedding.tensor, rows, cols, bits: embeddingBits })
  if (headBits !== undefined && !tied) tensors.push({ name: head.tensor, rows, cols, bits: headBits })
  return tensors
}

/** They see no calibration. */
const unmeasured = { relativeError: null, drift: null, tokens: null, pooled: null }

/** Weights that are rounded between two turns of the event loop; no more of them are in memory as floats. */
const SLAB_VALUES = 2 ** 20

/**
 * Rounds the tensors one after the other.
 *
 * @param onProgress is given what is being done, and the share of it that is done
 */
export async function quantizeEndTensors(
  weights: WeightSource,
  tensors: readonly EndTensor[],
  deliver: (name: string, layer: ScalarLayer, report: LayerReport) => Promise<void>,
  signal: AbortSignal | undefined,
  onProgress: PartProgress = () => {},
): Promise<void> {
  for (const [i, tensor] of tensors.entries()) {
    const { name } = tensor
    const module = name.replace(/\.weight$/, '')
    const lap = stopwatch()
    const layer = await roundRows(weights, tensor, signal, (done) =>
      onProgress(`rounding ${module}`, (i + done) / tensors.length),
    )
    await deliver(name, layer, layerReport(module, pack(layer), { ...unmeasured, seconds: lap() }))
  }
}

/** Rounds a tensor some rows at a time: an embedding may be larger than all layers of a block. */
async function roundRows(
  weights: WeightSource,
  { name, rows, cols, bits }: EndTensor,
  signal: AbortSignal | undefined,
  onProgress: (done: number) => void,
): Promise<ScalarLayer> {
  assertTensorShape(weights, name, [rows, cols], 'vocab_size and hidden_size')
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
