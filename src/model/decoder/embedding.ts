import { TextError } from '../../common/errors.js'
import type { DecoderDescription } from './description.js'
import { assertTensorShape, readRows, type WeightSource } from './weights.js'

/** Up to this many bytes an embedding is read once and kept; a larger one is read by runs of rows. */
const keptBytes = 2 ** 26

/** Rows that are read at once: neighbours closer than `gap` rows share a read, of at most `runBytes` bytes. */
const gap = 16
const runBytes = 2 ** 24

/** Looks up the embeddings of tokens: tokens x hiddenSize, row-major. */
export type Embedding = (tokens: Int32Array) => Promise<Float32Array>

/**
 * Checks, without reading it, that the input embedding is there and has the shape that `config` asks for.
 *
 * @throws CheckpointError when it is missing or has another shape
 */
export function assertEmbedding(
  source: WeightSource,
  { vocabSize, hiddenSize, embedding }: DecoderDescription,
): void {
  assertTensorShape(source, embedding.tensor, [vocabSize, hiddenSize], 'vocab_size and hidden_size')
}

/**
 * Opens the input embedding of a model.
 *
 * @throws CheckpointError when the tensor is missing or has another shape
 */
export async function openEmbedding(source: WeightSource, config: DecoderDescription): Promise<Embedding> {
  const { vocabSize, hiddenSize, embedding } = config
  const { tensor, scale } = embedding
  assertEmbedding(source, config)
  if (4 * vocabSize * hiddenSize <= keptBytes) {
    const table = scaled(await readRows(source, tensor, 0, vocabSize), scale)
    return async (tokens) => {
      assertTokenIds(tokens, vocabSize)
      const hidden = new Float32Array(tokens.length * hiddenSize)
      tokens.forEach((token, i) => {
        hidden.set(table.subarray(token * hiddenSize, (token + 1) * hiddenSize), i * hiddenSize)
      })
      return hidden
    }
  }
  return (tokens) => {
    assertTokenIds(tokens, vocabSize)
    return gatherRuns(source, config, tokens)
  }
}

/**
 * The embeddings of `tokens`: tokens x hiddenSize, row-major. Reads the rows it needs, never the whole table of a
 * large model.
 *
 * @throws TextError for a token id outside the vocabulary
 */
export async function embedTokens(
  source: WeightSource,
  config: DecoderDescription,
  tokens: Int32Array,
): Promise<Float32Array> {
  return (await openEmbedding(source, config))(tokens)
}

/**
 * @throws TextError naming the first id that is not a row of the embedding
 */
export function assertTokenIds(tokens: Int32Array, vocabSize: number): void {
  const at = tokens.findIndex((token) => token < 0 || token >= vocabSize)
  if (at < 0) return
  throw new TextError(
    `token ${at} of the text has the id ${tokens[at]}; the model's vocabulary has ${vocabSize} tokens (vocab_size). ` +
      'The tokenizer is of another vocabulary: use the tokenizer.json that belongs to the model',
  )
}

async function gatherRuns(
  source: WeightSource,
  { hiddenSize, embedding }: DecoderDescription,
  tokens: Int32Array,
): Promise<Float32Array> {
  const places = Int32Array.from(tokens.keys()).sort((a, b) => tokens[a] - tokens[b])
  const hidden = new Float32Array(tokens.length * hiddenSize)
  const runRows = Math.max(1, Math.floor(runBytes / (4 * hiddenSize)))
  for (let start = 0, end = 0; start < places.length; start = end) {
    const first = tokens[places[start]]
    let last = first
    while (end < places.length) {
      const next = tokens[places[end]]
      if (next - last > gap || next - first >= runRows) break
      last = next
      end++
    }
    const rows = await readRows(source, embedding.tensor, first, last - first + 1)
    for (const place of places.subarray(start, end)) {
      const offset = (tokens[place] - first) * hiddenSize
      hidden.set(rows.subarray(offset, offset + hiddenSize), place * hiddenSize)
    }
  }
  return scaled(hidden, embedding.scale)
}

function scaled(values: Float32Array, scale: number): Float32Array {
  if (scale !== 1) for (let i = 0; i < values.length; i++) values[i] *= scale
  return values
}
