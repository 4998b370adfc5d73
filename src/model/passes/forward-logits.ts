import { ShapeError } from '../../common/errors.js'
import { disposeBlock, openBlock } from '../decoder/block.js'
import type { DecoderDescription } from '../decoder/description.js'
import { openEmbedding } from '../decoder/embedding.js'
import { assertFiniteLogits, openHead } from '../decoder/head.js'
import { runBlock } from '../decoder/run-block.js'
import type { WeightSource } from '../decoder/weights.js'

/**
 * The whole forward pass, one block in memory at a time: logits of `batch` sequences of `length` tokens.
 *
 * @param tokens batch * length token ids, sequence after sequence
 * @param onHidden is given the hidden states in front of each block and behind the last
 * @returns logits, (batch * length) x vocabSize, row-major
 * @throws CheckpointError when a tensor is missing or of another shape than `config` asks for
 * @throws NumericError when a weight, an activation or a logit is NaN or infinite
 * @throws TextError for a token id outside the vocabulary
 */
export async function forwardLogits(
  source: WeightSource,
  config: DecoderDescription,
  tokens: Int32Array,
  batch: number,
  onHidden: (hidden: Float32Array) => void = () => {},
): Promise<Float32Array> {
  const length = tokens.length / batch
  if (!Number.isInteger(length) || length === 0) {
    throw new ShapeError(`${tokens.length} tokens do not make ${batch} sequences of one length`)
  }
  const embed = await openEmbedding(source, config)
  let hidden = await embed(tokens)
  for (const description of config.blocks) {
    onHidden(hidden)
    const block = await openBlock(source, description)
    try {
      hidden = await runBlock(block, hidden, batch, length)
    } finally {
      disposeBlock(block)
    }
  }
  onHidden(hidden)
  const head = await openHead(source, config)
  try {
    const logits = await head.logits(hidden)
    assertFiniteLogits(logits, config.vocabSize)
    return logits
  } finally {
    head.dispose()
  }
}
