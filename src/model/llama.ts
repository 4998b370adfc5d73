import { ShapeError } from '../errors.js'
import { disposeBlock, loadBlock } from './block.js'
import type { LlamaConfig } from './config.js'
import { embedTokens } from './embedding.js'
import { openHead } from './head.js'
import { runBlock } from './run-block.js'
import type { WeightSource } from './weights.js'

/**
 * The whole forward pass, one block in memory at a time: logits of `batch` sequences of `length` tokens.
 *
 * @param tokens batch * length token ids, sequence after sequence
 * @returns logits, (batch * length) x vocabSize, row-major
 * @throws CheckpointError when a tensor is missing or of another shape than `config` asks for
 * @throws NumericError when a weight or an activation is NaN or infinite
 * @throws TextError for a token id outside the vocabulary
 */
export async function forwardLogits(
  source: WeightSource,
  config: LlamaConfig,
  tokens: Int32Array,
  batch: number,
): Promise<Float32Array> {
  const length = tokens.length / batch
  if (!Number.isInteger(length) || length === 0) {
    throw new ShapeError(`${tokens.length} tokens do not make ${batch} sequences of one length`)
  }
  let hidden = await embedTokens(source, config, tokens)
  for (let index = 0; index < config.layers; index++) {
    const block = await loadBlock(source, config, index)
    try {
      hidden = await runBlock(block, hidden, batch, length)
    } finally {
      disposeBlock(block)
    }
  }
  const head = await openHead(source, config)
  try {
    return await head.logits(hidden)
  } finally {
    head.dispose()
  }
}
