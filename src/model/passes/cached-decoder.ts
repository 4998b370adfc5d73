import { type Block, disposeBlock, holdBlock, openBlock } from '../decoder/block.js'
import type { DecoderDescription } from '../decoder/description.js'
import { type Embedding, openEmbedding } from '../decoder/embedding.js'
import { assertFiniteLogits, type Head, openHead } from '../decoder/head.js'
import { runBlock } from '../decoder/run-block.js'
import type { WeightSource } from '../decoder/weights.js'
import type { KeyValueCache } from '../ops/ops.js'
import { runningOps } from '../ops/running.js'

/** A whole model in memory, to run token by token. Free it with {@link disposeDecoder}. */
export interface Decoder {
  readonly config: DecoderDescription
  readonly blocks: readonly Block[]
  readonly embed: Embedding
  readonly head: Head
}

/**
 * Loads all blocks of a model.
 *
 * @throws UnsupportedError when the running engine cannot hold them at once
 */
export async function loadDecoder(source: WeightSource, config: DecoderDescription): Promise<Decoder> {
  const blocks: Block[] = []
  try {
    for (const description of config.blocks) {
      const block = await openBlock(source, description)
      blocks.push(block)
      holdBlock(block)
    }
    const embed = await openEmbedding(source, config)
    return { config, blocks, embed, head: await openHead(source, config, true) }
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

/** The bytes of the caches of all blocks for one sequence. */
export function cacheBytes({ blocks }: DecoderDescription, capacity: number): number {
  return blocks.reduce(
    (sum, { attention: { kvHeads, headDim } }) => sum + 8 * kvHeads * headDim * capacity,
    0,
  )
}

/**
 * One empty cache per block, for `sequences` sequences of up to `capacity` tokens. Rotary settings that depend on a
 * sequence's length take it to be `capacity`, so that what is cached stays as it is. Close them with {@link closeCaches}.
 */
export function openCaches({ config }: Decoder, sequences: number, capacity: number): KeyValueCache[] {
  return config.blocks.map(({ attention }) => {
    const { softCap, window, ...shape } = attention
    return runningOps().openCache(sequences, capacity, { ...shape, softCap, window })
  })
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
