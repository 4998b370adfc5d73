import type {
  AttentionDescription,
  BlockDescription,
  DecoderDescription,
  DenseFeedForward,
  FeedForwardDescription,
  LinearDescription,
  NormDescription,
} from '../model/decoder/description.js'
import type { GgufArchitecture } from './architectures.js'
import { neighbourOrder, partsOfHeads, type RowOrder } from './row-order.js'

/** One tensor of a GGUF file, and what of the model it holds. */
export interface NamedTensor {
  /** Its name in the file, e.g. `'blk.0.attn_q.weight'`. */
  readonly name: string
  /** Sizes of the dimensions, outermost first. */
  readonly shape: readonly number[]
  /** Names of the model's tensors, of equal size, stacked one below the other. Mostly one. */
  readonly sources: readonly string[]
  /** Shape of each source in the model. */
  readonly sourceShape: readonly number[]
  /** Rows of each source; 1 for norms and biases, unless `order` is set. */
  readonly rows: number
  /** Values in a row. */
  readonly cols: number
  /** Where rows are ordered otherwise than in the model. */
  readonly order?: RowOrder
  /** What is added to the model's values. */
  readonly offset: 0 | 1
  /** A matrix that is multiplied with: what may be quantized. */
  readonly matrix: boolean
}

/**
 * The tensors that llama.cpp expects of a model, from the description of its decoder: families differ only in what their
 * descriptions say.
 *
 * @param ownHead of a file that is read false: one that has no output projection is read as well
 */
export function ggufTensors(
  decoder: DecoderDescription,
  { neighbours, ownHead }: Pick<GgufArchitecture, 'neighbours' | 'ownHead'>,
): NamedTensor[] {
  const { embedding, head, vocabSize, hiddenSize } = decoder
  const whole = (name: string, tensor: string) => matrixOf(name, [tensor], [vocabSize, hiddenSize])
  return [
    whole('token_embd.weight', embedding.tensor),
    ...decoder.blocks.flatMap((block) => blockTensors(block, neighbours)),
    ...normTensors('output_norm', decoder.finalNorm),
    ...(head.tensor === embedding.tensor && !ownHead ? [] : [whole('output.weight', head.tensor)]),
  ]
}

function blockTensors(block: BlockDescription, neighbours: boolean): NamedTensor[] {
  const { norms, attention, feedForward, index } = block
  const prefix = `blk.${index}.`
  return [
    ...normTensors(`${prefix}attn_norm`, norms.attentionInput),
    ...attentionTensors(prefix, attention, neighbours),
    ...normTensors(`${prefix}post_attention_norm`, norms.attentionOutput),
    ...normTensors(`${prefix}ffn_norm`, norms.feedForwardInput),
    ...feedForwardTensors(prefix, feedForward),
    ...normTensors(`${prefix}post_ffw_norm`, norms.feedForwardOutput),
  ]
}

function attentionTensors(
  prefix: string,
  attention: AttentionDescription,
  neighbours: boolean,
): NamedTensor[] {
  const { projections, heads, headDim } = attention
  const turned = neighbours ? neighbourOrder(headDim) : undefined
  const inputs =
    projections.kind === 'separate'
      ? [
          ...linearTensors(`${prefix}attn_q`, projections.queries, turned),
          ...linearTensors(`${prefix}attn_k`, projections.keys, turned),
          ...linearTensors(`${prefix}attn_v`, projections.values),
        ]
      : linearTensors(
          `${prefix}attn_qkv`,
          projections.all,
          projections.order === 'heads' ? partsOfHeads(heads, headDim) : undefined,
        )
  return [
    ...inputs,
    ...normTensors(`${prefix}attn_q_norm`, attention.queryNorm),
    ...normTensors(`${prefix}attn_k_norm`, attention.keyNorm),
    ...linearTensors(`${prefix}attn_output`, attention.output),
  ]
}

function feedForwardTensors(prefix: string, feedForward: FeedForwardDescription): NamedTensor[] {
  if (feedForward.kind !== 'routed') return denseTensors(prefix, '', [feedForward])
  const { router, experts, shared } = feedForward
  const gate = shared?.gate
  return [
    // small and sensitive: stays in full precision
    {
      ...matrixOf(`${prefix}ffn_gate_inp.weight`, [`${router.module}.weight`], [router.rows, router.cols]),
      matrix: false,
    },
    ...denseTensors(prefix, '_exps', experts),
    ...(gate ? [sharedGate(prefix, gate)] : []),
    ...(shared ? denseTensors(prefix, '_shexp', [shared.feedForward]) : []),
  ]
}

/** One row, which llama.cpp stores as a list. */
function sharedGate(prefix: string, { module, cols }: LinearDescription): NamedTensor {
  const list = listOf(`${prefix}ffn_gate_inp_shexp.weight`, `${module}.weight`, cols)
  return { ...list, sourceShape: [1, cols] }
}

/** @param parts one, or all experts of a block, which are stacked */
function denseTensors(prefix: string, suffix: string, parts: readonly DenseFeedForward[]): NamedTensor[] {
  const stacked = (kind: string, linearOf: (part: DenseFeedForward) => LinearDescription) => {
    const linears = parts.map(linearOf)
    const name = `${prefix}ffn_${kind}${suffix}`
    if (suffix !== '_exps') return linearTensors(name, linears[0])
    const { rows, cols } = linears[0]
    const sources = linears.map(({ module }) => `${module}.weight`)
    return [{ ...matrixOf(`${name}.weight`, sources, [rows, cols]), shape: [parts.length, rows, cols] }]
  }
  return [
    ...(parts[0].kind === 'gated'
      ? stacked('gate', (part) => (part.kind === 'gated' ? part.gate : part.down))
      : []),
    ...stacked('up', (part) => (part.kind === 'fused' ? part.gateUp : part.up)),
    ...stacked('down', (part) => part.down),
  ]
}

function linearTensors(name: string, linear: LinearDescription, order?: RowOrder): NamedTensor[] {
  const { module, rows, cols, bias } = linear
  const ordered = order === undefined ? {} : { order }
  const weight = { ...matrixOf(`${name}.weight`, [`${module}.weight`], [rows, cols]), ...ordered }
  if (!bias) return [weight]
  const biases = listOf(`${name}.bias`, `${module}.bias`, rows)
  return [weight, order === undefined ? biases : { ...biases, rows, cols: 1, order }]
}

function normTensors(name: string, norm: NormDescription | undefined): NamedTensor[] {
  if (norm === undefined) return []
  const tensor = (ending: string, sources: readonly string[], offset: 0 | 1): NamedTensor[] => {
    if (sources.length === 0) return []
    const { size } = norm
    const shape = sources.length === 1 ? [size] : [sources.length, size]
    const full = `${name}.${ending}`
    return [{ name: full, shape, sources, sourceShape: [size], rows: 1, cols: size, offset, matrix: false }]
  }
  return [...tensor('weight', norm.weights, norm.offset), ...tensor('bias', norm.biases, 0)]
}

function matrixOf(
  name: string,
  sources: readonly string[],
  [rows, cols]: readonly [rows: number, cols: number],
): NamedTensor {
  const shape = [rows, cols]
  return { name, shape, sources, sourceShape: shape, rows, cols, offset: 0, matrix: true }
}

function listOf(name: string, source: string, size: number): NamedTensor {
  const shape = [size]
  const sources = [source]
  return { name, shape, sources, sourceShape: shape, rows: 1, cols: size, offset: 0, matrix: false }
}
