import { sharesInput } from '../../../model/decoder/dense-stages.js'
import type {
  BlockDescription,
  DecoderDescription,
  NormDescription,
} from '../../../model/decoder/description.js'
import { constant, input, node, output, reshape } from '../graph.js'
import { type GraphWeights, linear, matrixOf, product, rowsOfMatrix } from '../weights/weights.js'
import { attend, type Call } from './attention.js'
import { fedForward } from './feed-forward.js'
import { norm, softCapped, times } from './layers.js'

/** Adds a whole decoder: inputs and outputs are those of text generation with a cache in transformers.js. */
export async function addDecoder(weights: GraphWeights, decoder: DecoderDescription): Promise<void> {
  const { graph } = weights
  const { hiddenSize, vocabSize, embedding, head, finalNorm } = decoder
  const whole = (name: string, length: string) => {
    return input(graph, { name, type: 'int64', dims: ['batch_size', length] })
  }
  const ids = whole('input_ids', 'sequence_length')
  const mask = whole('attention_mask', 'total_sequence_length')
  const positions = whole('position_ids', 'sequence_length')
  const call = { positions, mask, shape: node(graph, 'Shape', [ids]), maxPositions: decoder.maxPositions }
  const table = await matrixOf(weights, embedding.tensor, [vocabSize, hiddenSize], true)
  let x = times(graph, rowsOfMatrix(graph, table, reshape(graph, ids, -1)), embedding.scale)
  for (const block of decoder.blocks) x = await addBlock(weights, call, block, x, hiddenSize)
  const last = await norm(weights, finalNorm, x, hiddenSize)
  const projection = await matrixOf(weights, head.tensor, [vocabSize, hiddenSize])
  const raw = times(graph, product(weights, projection, last, undefined), head.scale)
  const shape = node(graph, 'Concat', [call.shape, constant(graph, 'int64', [vocabSize])], { axis: 0 })
  const logits = node(graph, 'Reshape', [softCapped(graph, raw, head.softCap), shape])
  output(graph, logits, {
    name: 'logits',
    type: 'float32',
    dims: ['batch_size', 'sequence_length', vocabSize],
  })
}

async function addBlock(
  weights: GraphWeights,
  call: Call,
  block: BlockDescription,
  residual: string,
  hiddenSize: number,
): Promise<string> {
  const { norms, attention, feedForward, parallel, residualScale } = block
  const { graph } = weights
  const normed = (description: NormDescription | undefined, x: string) =>
    description ? norm(weights, description, x, hiddenSize) : x
  const add = async (to: string, part: string, description: NormDescription | undefined) =>
    node(graph, 'Add', [to, times(graph, await normed(description, part), residualScale)])

  const entering = await normed(norms.attentionInput, residual)
  const attended = await linear(weights, attention.output, await attend(weights, call, block, entering))
  const between = await add(residual, attended, norms.attentionOutput)
  const read = sharesInput(block)
    ? entering
    : await normed(norms.feedForwardInput, parallel ? residual : between)
  return add(between, await fedForward(weights, feedForward, read), norms.feedForwardOutput)
}
