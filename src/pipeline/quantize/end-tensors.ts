import { requireOneOf } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import type { DecoderDescription } from '../../model/decoder/description.js'

/** How embedding and head are quantized: each value rounded, or vectors by GPTVQ. */
export type EndMethod = 'rtn' | 'gptvq'

/** All values of {@link EndMethod}. */
export const endMethods: readonly EndMethod[] = ['rtn', 'gptvq']

/** Whether what is in front of the blocks and behind them is quantized too: on small models it is half of the bytes. */
export interface EndTensorOptions {
  /** Bits of the input embedding: 4 or 8, with `embeddingMethod: 'gptvq'` 2, 3 or 4; default: it stays as it is. */
  embeddingBits?: 2 | 3 | 4 | 8
  /** The same for the output projection. One that is tied to the embedding is the embedding: set that. */
  headBits?: 2 | 3 | 4 | 8
  /**
   * How the embedding is quantized. `'rtn'` (default): rounded by groups of 64 values. `'gptvq'`: by the default settings of
   * `quantizeLayer`, with the identity as Hessian, and where it is the head too, half the identity and half the Hessian of
   * what the head sees on the calibration text.
   */
  embeddingMethod?: EndMethod
  /** The same for the output projection, by `'gptvq'` with the Hessian of what it sees on the calibration text. */
  headMethod?: EndMethod
}

/** A tensor to quantize. */
export interface EndTensor {
  readonly name: string
  readonly rows: number
  readonly cols: number
  readonly bits: number
  readonly method: EndMethod
  /** Whether its rows are looked up, multiplied by hidden states, or both. */
  readonly use: 'embedding' | 'head' | 'both'
}

/** All bits that a method may have. */
const BITS: Readonly<Record<EndMethod, readonly number[]>> = { rtn: [4, 8], gptvq: [2, 3, 4] }

/** The tensors that the options ask for. @throws OptionError */
export function endTensors(
  { embedding, head, vocabSize: rows, hiddenSize: cols }: DecoderDescription,
  options: EndTensorOptions,
): EndTensor[] {
  const [own, ofHead] = [settingsOf('embedding', options), settingsOf('head', options)]
  const tied = head.tensor === embedding.tensor
  if (tied && ofHead !== undefined && (ofHead.bits !== own?.bits || ofHead.method !== own.method)) {
    const option = ofHead.bits === own?.bits ? 'Method' : 'Bits'
    throw new OptionError(
      `head${option}`,
      `the model's head is its embedding (tie_word_embeddings); set embedding${option} to ` +
        `${option === 'Bits' ? ofHead.bits : ofHead.method} instead`,
    )
  }
  const tensors: EndTensor[] = []
  if (own) tensors.push({ name: embedding.tensor, rows, cols, ...own, use: tied ? 'both' : 'embedding' })
  if (ofHead && !tied) tensors.push({ name: head.tensor, rows, cols, ...ofHead, use: 'head' })
  return tensors
}

/** Whether the options name GPTVQ for one of them, so that those of calibration mean something. */
export function endsByGptvq({
  embeddingMethod,
  headMethod,
}: Pick<EndTensorOptions, 'embeddingMethod' | 'headMethod'>): boolean {
  return embeddingMethod === 'gptvq' || headMethod === 'gptvq'
}

/** Whether a tensor is quantized by what it sees of the calibration text. */
export function seesText({ method, use }: Pick<EndTensor, 'method' | 'use'>): boolean {
  return method === 'gptvq' && use !== 'embedding'
}

function settingsOf(
  end: 'embedding' | 'head',
  options: EndTensorOptions,
): Pick<EndTensor, 'bits' | 'method'> | undefined {
  const { [`${end}Bits` as const]: bits, [`${end}Method` as const]: given } = options
  const method = given ?? 'rtn'
  requireOneOf(`${end}Method`, method, endMethods)
  if (bits !== undefined) {
    requireOneOf<number>(`${end}Bits`, bits, BITS[method])
    return { bits, method }
  }
  if (given === undefined) return undefined
  throw new OptionError(
    `${end}Method`,
    `${given} of how many bits is not said; set ${end}Bits to one of ${BITS[method].join(', ')}`,
  )
}
