import type {
  DecoderDescription,
  DenseFeedForward,
  LinearDescription,
  NormDescription,
} from '../../../src/model/decoder/description.js'

/** All tensors that a description names, with their shapes. */
export function describedTensors(description: DecoderDescription): Map<string, readonly number[]> {
  const { embedding, head, hiddenSize, vocabSize, finalNorm } = description
  const tensors = new Map<string, readonly number[]>()
  const norm = (one: NormDescription | undefined) => {
    for (const name of [...(one?.weights ?? []), ...(one?.biases ?? [])]) tensors.set(name, [one!.size])
  }
  const linear = (one: LinearDescription | undefined) => {
    if (one === undefined) return
    tensors.set(`${one.module}.weight`, [one.rows, one.cols])
    if (one.bias) tensors.set(`${one.module}.bias`, [one.rows])
  }
  const dense = (part: DenseFeedForward) => {
    if (part.kind === 'gated') [part.gate, part.up, part.down].forEach(linear)
    else if (part.kind === 'fused') [part.gateUp, part.down].forEach(linear)
    else [part.up, part.down].forEach(linear)
  }
  tensors.set(embedding.tensor, [vocabSize, hiddenSize])
  tensors.set(head.tensor, [vocabSize, hiddenSize])
  norm(finalNorm)
  for (const { norms, attention, feedForward } of description.blocks) {
    Object.values(norms).forEach(norm)
    norm(attention.queryNorm)
    norm(attention.keyNorm)
    const { projections } = attention
    if (projections.kind === 'fused') linear(projections.all)
    else [projections.queries, projections.keys, projections.values].forEach(linear)
    linear(attention.output)
    if (feedForward.kind !== 'routed') dense(feedForward)
    else {
      linear(feedForward.router)
      feedForward.experts.forEach(dense)
      linear(feedForward.shared?.gate)
      if (feedForward.shared !== undefined) dense(feedForward.shared.feedForward)
    }
  }
  return tensors
}
