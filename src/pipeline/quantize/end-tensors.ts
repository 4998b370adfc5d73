import { quantizeRtn } from '../../baselines/rtn.js'
import { requireOneOf } from '../../check-option.js'
import { OptionError, throwIfAborted } from '../../errors.js'
import { matrix } from '../../matrix.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { readTensor, type WeightSource } from '../../model/decoder/weights.js'
import { pack } from '../../packing/quantized-layer.js'
import type { ScalarLayer } from '../../packing/scalar-layer.js'
import { stopwatch } from '../stopwatch.js'
import { type LayerReport, layerReport } from './layer-report.js'

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
const GROUP_SIZE = 64

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

/** Rounds the tensors one after the other. */
export async function quantizeEndTensors(
  weights: WeightSource,
  tensors: readonly EndTensor[],
  deliver: (name: string, layer: ScalarLayer, report: LayerReport) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const { name, rows, cols, bits } of tensors) {
    throwIfAborted(signal)
    const lap = stopwatch()
    const values = await readTensor(weights, name, [rows, cols], 'vocab_size and hidden_size')
    const layer = quantizeRtn(matrix(rows, cols, values), { bits, groupSize: GROUP_SIZE }, name)
    await deliver(
      name,
      layer,
      layerReport(name.replace(/\.weight$/, ''), pack(layer), { ...unmeasured, seconds: lap() }),
    )
  }
}
