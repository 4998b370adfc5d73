import { type Block, disposeBlock, holdBlock, openBlock } from '../decoder/block.js'
import type { DecoderDescription } from '../decoder/description.js'
import { type Embedding, openEmbedding } from '../decoder/embedding.js'
import { assertFiniteLogits, type Head, openHead } from '../decoder/head.js'
import { runBlock, runStretches } from '../decoder/run-block.js'
import type { WeightSource } from '../decoder/weights.js'
import type { AttentionShape, CachePrecision, KeyValueCache } from '../ops/ops.js'
import { runningOps } from '../ops/running.js'

/** A whole model in memory, to run token by token. Free it with {@link disposeDecoder}. */
export interface Decoder {
  readonly config: DecoderDescription
  readonly blocks: readonly Block[]
  readonly embed: Embedding
  readonly head: Head
}

/** How {@link loadDecoder} loads. */
export interface LoadOptions {
  /** Experts stay in memory too; default false: they are read again at each use. */
  readonly keepsExperts?: boolean
  /** Quantized layers stay as they are stored, where the source has them; default false: they are expanded. */
  readonly keepsPacked?: boolean
  /** Is called before each block with the share that is done; what it throws stops the loading. */
  readonly onBlock?: (done: number) => void
}

/**
 * Loads all blocks of a model.
 *
 * @throws UnsupportedError when the running engine cannot hold them at once
 */
export async function loadDecoder(
  source: WeightSource,
  config: DecoderDescription,
  { onBlock, ...kept }: LoadOptions = {},
): Promise<Decoder> {
  const blocks: Block[] = []
  try {
    for (const [index, description] of config.blocks.entries()) {
      onBlock?.(index / config.blocks.length)
      const block = await openBlock(source, description, kept)
      blocks.push(block)
      holdBlock(block)
    }
    const embed = await openEmbedding(source, config)
    return {
      config,
      blocks,
      embed,
      head: await openHead(source, config, { holds: true, keepsPacked: kept.keepsPacked }),
    }
  } catch (error) {
    blocks.forEach(disposeBlock)
    throw error
  }
}

/** Frees a decoder's memory. */
export function disposeDecoder(decoder: Decoder): void {
  decoder.blocks.forEach(disposeBlock)
  decoder.head.dispose()
}

/** What of a description says how large caches are. */
interface CacheShapes {
  readonly blocks: readonly { readonly attention: Pick<AttentionShape, 'kvHeads' | 'headDim'> }[]
}

/** The bytes of the caches of all blocks for one sequence. */
export function cacheBytes(
  { blocks }: CacheShapes,
  capacity: number,
  precision: CachePrecision = 'float32',
): number {
  // with codes goes a scale for each run
  const runBytes = (headDim: number) => (precision === 'float32' ? 4 * headDim : headDim + 4)
  return blocks.reduce(
    (sum, { attention: { kvHeads, headDim } }) => sum + 2 * kvHeads * runBytes(headDim) * capacity,
    0,
  )
}

/**
 * One empty cache per block, for `sequences` sequences of up to `capacity` tokens. Rotary settings that depend on a
 * sequence's length take it to be `capacity`, so that what is cached stays as it is. Close them with {@link closeCaches}.
 *
 * @throws UnsupportedError when the running engine has no caches of that precision
 */
export function openCaches(
  { config }: Decoder,
  sequences: number,
  capacity: number,
  precision: CachePrecision = 'float32',
): KeyValueCache[] {
  const caches: KeyValueCache[] = []
  try {
    for (const { attention } of config.blocks) {
      const { softCap, window, ...shape } = attention
      caches.push(runningOps().openCache(sequences, capacity, { ...shape, softCap, window }, precision))
    }
    return caches
  } catch (error) {
    closeCaches(caches)
    throw error
  }
}

/** Frees caches. */
export function closeCaches(caches: readonly KeyValueCache[]): void {
  for (const cache of caches) runningOps().closeCache(cache)
}

/**
 * Runs some tokens of each sequence through the model, after those that the caches hold.
 *
 * @param tokens sequence after sequence, as many of each
 * @param target receives the logits; default: a new array
 * @returns logits of the tokens that follow, one row per token: tokens x vocabSize
 * @throws NumericError when an activation or a logit is NaN or infinite
 */
export async function decodeTokens(
  decoder: Decoder,
  caches: readonly KeyValueCache[],
  tokens: Int32Array,
  target?: Float32Array,
): Promise<Float32Array> {
  const { sequences } = caches[0]
  let hidden = await decoder.embed(tokens)
  for (const [index, block] of decoder.blocks.entries()) {
    hidden = await runBlock(block, hidden, sequences, tokens.length / sequences, { cache: caches[index] })
  }
  const logits = await decoder.head.logits(hidden, target)
  // a draw from NaN would always give the last token
  assertFiniteLogits(logits, decoder.head.vocabSize)
  return logits
}

/** The next tokens of one sequence. */
export interface SequenceStep {
  /** Of one sequence; a cache per block. */
  readonly caches: readonly KeyValueCache[]
  /** Those that follow what the caches hold. */
  readonly tokens: Int32Array
  /** The length that rotary settings take the sequence to have. */
  readonly span: number
  /** Whether the logits behind the last of the tokens are wanted. */
  readonly predicts: boolean
}

/**
 * Runs tokens of several sequences through the model in one pass, each after those that its own caches hold.
 *
 * @param target receives the logits; default: a new array
 * @returns a row of logits for each step that predicts: rows x vocabSize
 * @throws NumericError when an activation or a logit is NaN or infinite; what the caches hold is then unspecified
 */
export async function decodeSteps(
  decoder: Decoder,
  steps: readonly SequenceStep[],
  target?: Float32Array,
): Promise<Float32Array> {
  const { hiddenSize, vocabSize } = decoder.config
  const tokens = Int32Array.from(steps.flatMap((step) => Array.from(step.tokens)))
  let hidden = await decoder.embed(tokens)
  for (const [index, block] of decoder.blocks.entries()) {
    const stretches = steps.map(({ caches, tokens: { length }, span }) => {
      const cache = caches[index]
      return { tokens: { sequences: 1, length, position: cache.positions }, span, cache }
    })
    hidden = await runStretches(block, hidden, stretches)
  }
  const last = lastRows(steps, hidden, hiddenSize)
  if (last.length === 0) return new Float32Array(0)
  const logits = await decoder.head.logits(last, target)
  assertFiniteLogits(logits, vocabSize)
  return logits
}

/** The hidden states behind the last tokens of the steps that predict. */
function lastRows(steps: readonly SequenceStep[], hidden: Float32Array, hiddenSize: number): Float32Array {
  const rows: Float32Array[] = []
  let end = 0
  for (const { tokens, predicts } of steps) {
    end += tokens.length
    if (predicts) rows.push(hidden.subarray((end - 1) * hiddenSize, end * hiddenSize))
  }
  const last = new Float32Array(rows.length * hiddenSize)
  for (const [i, row] of rows.entries()) last.set(row, i * hiddenSize)
  return last
}
