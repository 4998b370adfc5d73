import { NumericError, ShapeError } from '../../common/errors.js'
import { turnOfEventLoop } from '../../common/event-loop.js'
import { firstNotFinite } from '../../common/matrix.js'
import type { PackedQuantizedLayer } from '../../packing/quantized-layer.js'
import type { LinearWeights, NormWeights, Ops } from '../ops/ops.js'
import { releaseWeights, runningOps } from '../ops/running.js'
import { assertNormTensors, readNorm } from './block.js'
import type { DecoderDescription } from './description.js'
import { assertTensorShape, readRows, type WeightSource } from './weights.js'

/** A head up to this many bytes stays in memory; a larger one is read again, slice by slice, at each use. */
const keptBytes = 2 ** 27

/** The bytes of one slice of the vocabulary. */
const sliceBytes = 2 ** 26
/** The same where it is held in bfloat16: float32 is there beside it while it is loaded. */
const bfloatSliceBytes = 2 ** 24

/** The final norm and the output projection of a model. */
export interface Head {
  readonly vocabSize: number
  readonly hiddenSize: number
  /**
   * @param hidden tokens x hiddenSize: the output of the last block
   * @param target receives the logits; default: a new array
   * @returns logits, tokens x vocabSize, row-major
   */
  logits(hidden: Float32Array, target?: Float32Array): Promise<Float32Array>
  /** Hands `use` the head of each slice of the vocabulary in turn, and the first token of the slice. */
  forEachSlice(use: (slice: HeadSlice, first: number) => void): Promise<void>
  /** Frees its memory. */
  dispose(): void
}

/** How a head is loaded. */
export interface HeadOptions {
  /** All of it stays in memory, prepared by the engine for many uses; default false. */
  readonly holds?: boolean
  /**
   * With `holds`: a quantized one stays as it is stored, and so do values of bfloat16; default false.
   */
  readonly keepsPacked?: boolean
}

/** The head of some consecutive tokens of the vocabulary. */
export interface HeadSlice {
  /** Tokens. */
  readonly count: number
  /** The logits of these tokens for hidden states: tokens of text x count. */
  logits<T>(ops: Ops<T>, hidden: T): T
}

/**
 * Checks, without reading them, that the final norm and the output projection are there and have the shapes that
 * `config` asks for.
 *
 * @throws CheckpointError naming the one that is missing or of another shape
 */
export function assertHead(source: WeightSource, config: DecoderDescription): void {
  const { vocabSize, hiddenSize, head, embedding, finalNorm } = config
  const why = `vocab_size and hidden_size; tie_word_embeddings is ${head.tensor === embedding.tensor}`
  assertTensorShape(source, head.tensor, [vocabSize, hiddenSize], why)
  assertNormTensors(source, finalNorm)
}

/**
 * Opens the head of a model: its final norm and its output projection. That is multiplied by slices of the vocabulary,
 * so that it never has to be in memory as a whole.
 *
 * @throws CheckpointError when a tensor is missing or of another shape
 */
export async function openHead(
  source: WeightSource,
  config: DecoderDescription,
  { holds = false, keepsPacked = false }: HeadOptions = {},
): Promise<Head> {
  const { vocabSize, hiddenSize } = config
  assertHead(source, config)
  const norm = await readNorm(source, config.finalNorm)
  let stored = holds && keepsPacked ? await source.packed?.(config.head.tensor) : undefined
  const mayBeBfloats = holds && keepsPacked
  const bytesOfSlice = mayBeBfloats ? bfloatSliceBytes : sliceBytes
  const sliceRows = stored ? vocabSize : Math.max(1, Math.floor(bytesOfSlice / (4 * hiddenSize)))
  const kept = holds || 4 * vocabSize * hiddenSize <= keptBytes ? new Map<number, LinearWeights>() : undefined

  const weightsFrom = async (first: number): Promise<LinearWeights> => {
    const known = kept?.get(first)
    if (known !== undefined) return known
    const read = await readSlice(source, config, first, sliceRows, stored)
    const weights = kept && holds ? runningOps().hold(mayBeBfloats ? withBfloats(read) : read) : read
    kept?.set(first, weights)
    // the engine has it now
    stored = undefined
    return weights
  }
  const forEachSlice: Head['forEachSlice'] = async (use) => {
    for (let first = 0; first < vocabSize; first += sliceRows) {
      const weights = await weightsFrom(first)
      try {
        await turnOfEventLoop()
        use(sliceOf(config, norm, weights), first)
      } finally {
        if (kept === undefined) releaseWeights(weights)
      }
    }
  }
  return {
    vocabSize,
    hiddenSize,
    forEachSlice,
    async logits(hidden, target) {
      const tokens = requireRows(hidden, hiddenSize)
      const logits = target ?? new Float32Array(tokens * vocabSize)
      if (logits.length !== tokens * vocabSize) {
        throw new ShapeError(
          `the array for the logits has ${logits.length} values; expected ${tokens} x ${vocabSize}`,
        )
      }
      await forEachSlice((slice, first) => {
        const ops = runningOps()
        ops.tidy(() => {
          const part = ops.read(slice.logits(ops, ops.upload(hidden, tokens, hiddenSize)))
          putColumns(part, tokens, logits, vocabSize, first)
        })
      })
      return logits
    },
    dispose: () => {
      releaseWeights(norm)
      kept?.forEach(releaseWeights)
      kept?.clear()
    },
  }
}

/**
 * @param logits tokens x vocabSize
 * @throws NumericError when one is NaN or infinite, naming it
 */
export function assertFiniteLogits(logits: Float32Array, vocabSize: number): void {
  const at = firstNotFinite(logits)
  if (at < 0) return
  throw new NumericError(
    `the logit of token ${at % vocabSize} behind hidden state ${Math.floor(at / vocabSize)} is ${logits[at]}; expected ` +
      'finite numbers. The weights of the head are damaged, or the config.json is of another model',
  )
}

async function readSlice(
  source: WeightSource,
  { vocabSize, hiddenSize, head }: DecoderDescription,
  first: number,
  most: number,
  stored: PackedQuantizedLayer | undefined,
): Promise<LinearWeights> {
  const rows = Math.min(most, vocabSize - first)
  const weight = stored ?? (await readRows(source, head.tensor, first, rows))
  return { kind: head.tensor, rows, cols: hiddenSize, weight, bias: undefined }
}

/** The weight as bits of bfloat16, where these stand for the same values. */
function withBfloats(weights: LinearWeights): LinearWeights {
  if (!(weights.weight instanceof Float32Array)) return weights
  const bits = new Uint32Array(weights.weight.buffer, weights.weight.byteOffset, weights.weight.length)
  const bfloats = new Uint16Array(bits.length)
  for (let i = 0; i < bits.length; i++) {
    if (bits[i] & 0xffff) return weights
    bfloats[i] = bits[i] >>> 16
  }
  return { ...weights, weight: bfloats }
}

function sliceOf({ head }: DecoderDescription, norm: NormWeights, weights: LinearWeights): HeadSlice {
  return {
    count: weights.rows,
    logits(ops, hidden) {
      const raw = ops.linear(ops.norm(hidden, norm), weights)
      const logits = head.scale === 1 ? raw : ops.scale(raw, head.scale)
      return head.softCap === undefined ? logits : ops.softCap(logits, head.softCap)
    },
  }
}

/** How many rows there are. Throws ShapeError when they are not whole, or none. */
export function requireRows(hidden: Float32Array, hiddenSize: number): number {
  const rows = hidden.length / hiddenSize
  if (Number.isInteger(rows) && rows > 0) return rows
  throw new ShapeError(`${hidden.length} hidden values are not whole rows of hidden_size ${hiddenSize}`)
}

/** Writes `part` (rows x n) into columns `first` to `first + n - 1` of `whole` (rows x cols). */
function putColumns(
  part: Float32Array,
  rows: number,
  whole: Float32Array,
  cols: number,
  first: number,
): void {
  const width = part.length / rows
  for (let row = 0; row < rows; row++) {
    whole.set(part.subarray(row * width, (row + 1) * width), row * cols + first)
  }
}
