import * as tf from '@tensorflow/tfjs-core'
import {
  afterAttention,
  assertFiniteHidden,
  attentionInputs,
  disposeBlock,
  type LlamaBlock,
  loadBlock,
} from './block.js'
import { type AttentionCache, attendCached, attentionCache, storePosition } from './cached-attention.js'
import type { LlamaConfig } from './config.js'
import { type Embedding, openEmbedding } from './embedding.js'
import { type LlamaHead, openHead } from './head.js'
import { linearLayers } from './linears.js'
import { assertEngineHolds } from './ops/engine.js'
import { takeFloats } from './ops/tensors/take-floats.js'
import type { WeightSource } from './weights.js'

/** A whole model on the engine, to run token by token. Free it with {@link disposeDecoder}. */
export interface Decoder {
  readonly config: LlamaConfig
  readonly blocks: readonly LlamaBlock[]
  readonly embed: Embedding
  readonly head: LlamaHead
}

/**
 * Loads all blocks of a model.
 *
 * @throws UnsupportedError when the running engine cannot hold them at once
 */
export async function loadDecoder(source: WeightSource, config: LlamaConfig): Promise<Decoder> {
  const blockValues = linearLayers(config, 0).reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  assertEngineHolds(4 * blockValues * config.layers, 'sampling, which keeps every block loaded')
  const blocks: LlamaBlock[] = []
  try {
    for (let index = 0; index < config.layers; index++) blocks.push(await loadBlock(source, config, index))
    const embed = await openEmbedding(source, config)
    return { config, blocks, embed, head: await openHead(source, config) }
  } catch (error) {
    blocks.forEach(disposeBlock)
    throw error
  }
}

/** Frees a decoder's tensors. */
export function disposeDecoder(decoder: Decoder): void {
  decoder.blocks.forEach(disposeBlock)
  decoder.head.dispose()
}

/** One empty cache per block, for `sequences` sequences of up to `capacity` tokens. */
export function decoderCaches({ config }: Decoder, sequences: number, capacity: number): AttentionCache[] {
  return Array.from({ length: config.layers }, () => attentionCache(config, sequences, capacity))
}

/**
 * Runs one token of each sequence through the model, after those at the positions before it.
 *
 * @param tokens one id per sequence
 * @param position their position, counted from 0; all positions before it must be in the caches
 * @returns logits of the next token, sequences x vocabSize
 */
export async function decodeStep(
  decoder: Decoder,
  caches: readonly AttentionCache[],
  tokens: Int32Array,
  position: number,
): Promise<Float32Array> {
  let hidden = await decoder.embed(tokens)
  for (const [index, block] of decoder.blocks.entries()) {
    hidden = await stepBlock(block, caches[index], hidden, position)
  }
  return decoder.head.logits(hidden)
}

async function stepBlock(
  block: LlamaBlock,
  cache: AttentionCache,
  hidden: Float32Array,
  position: number,
): Promise<Float32Array> {
  const { config } = block
  const rows = cache.sequences
  const input = tf.tensor2d(hidden, [rows, config.hiddenSize])
  try {
    const { queries, keys, values } = tf.tidy(() => attentionInputs(block, input, rows, 1, position))
    storePosition(cache, cache.keys, position, await takeFloats(keys), config.headDim)
    storePosition(cache, cache.values, position, await takeFloats(values), config.headDim)
    const attended = attendCached(config, cache, await takeFloats(queries), position)
    const output = await takeFloats(
      tf.tidy(() =>
        afterAttention(block, input, tf.tensor2d(attended, [rows, config.heads * config.headDim])),
      ),
    )
    assertFiniteHidden(output, block, 1)
    return output
  } finally {
    input.dispose()
  }
}
