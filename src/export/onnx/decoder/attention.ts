import type {
  AttentionDescription,
  BlockDescription,
  LinearDescription,
} from '../../../model/decoder/description.js'
import { cast, constant, type Graph, input, ints, node, output, reshape, scalar, slice } from '../graph.js'
import { type GraphWeights, linear } from '../weights/weights.js'
import { norm, softCapped, times } from './layers.js'
import { rotaryAngles, rotate } from './rotary.js'

/** What all blocks of a call share. */
export interface Call {
  /** int64, batch x tokens. */
  readonly positions: string
  /** int64, batch x all positions. */
  readonly mask: string
  /** int64, two values: batch, tokens. */
  readonly shape: string
  /** Positions that the model was made for. */
  readonly maxPositions: number
}

/** What masked scores become: finite, so that a row that sees nothing at all is no NaN. */
const MASKED = -3.4e38

/** What attention gives for its normed input (tokens of all sequences x hiddenSize): rows x (heads * headDim). */
export async function attend(
  weights: GraphWeights,
  call: Call,
  { index, attention }: BlockDescription,
  x: string,
): Promise<string> {
  const { graph } = weights
  const { heads, kvHeads, headDim, rotary } = attention
  const { queries, keys, values } = await projected(weights, attention, x)
  const cut = (value: string, count: number) => headsOf(graph, call, value, count, headDim)
  const angles = rotary && rotaryAngles(graph, rotary, call.positions, call.maxPositions)
  const turned = (value: string, count: number) => {
    const own = cut(value, count)
    return rotary && angles ? rotate(graph, own, angles, rotary, headDim) : own
  }
  const allKeys = withPast(graph, attention, index, 'key', turned(keys, kvHeads))
  const allValues = withPast(graph, attention, index, 'value', cut(values, kvHeads))
  // the query heads of one key-value head, one behind the other: group * tokens rows
  const grouped = node(graph, 'Reshape', [
    times(graph, turned(queries, heads), attention.scale),
    constant(graph, 'int64', [0, kvHeads, -1, headDim]),
  ])
  const transposed = node(graph, 'Transpose', [allKeys], { perm: [0, 1, 3, 2] })
  const raw = softCapped(graph, node(graph, 'MatMul', [grouped, transposed]), attention.softCap)
  const shares = node(graph, 'Softmax', [masked(graph, call, attention, raw)], { axis: -1 })
  const mixed = node(graph, 'MatMul', [shares, allValues])
  const apart = joinedReshape(graph, mixed, [heads, -1, headDim])
  const rows = node(graph, 'Transpose', [apart], { perm: [0, 2, 1, 3] })
  return reshape(graph, rows, -1, heads * headDim)
}

/** Scores with those masked that a query must not see; group * tokens rows by all positions, as before. */
function masked(
  graph: Graph,
  call: Call,
  { heads, kvHeads, window }: AttentionDescription,
  raw: string,
): string {
  const group = heads / kvHeads
  const seen = visible(graph, call, window)
  // batch x kvHeads x group x tokens x positions
  const tokens = slice(graph, call.shape, 1, 2, 0)
  const apart = node(graph, 'Reshape', [
    raw,
    node(graph, 'Concat', [ints(graph, 0, kvHeads, group), tokens, ints(graph, -1)], { axis: 0 }),
  ])
  const hidden = node(graph, 'Where', [seen, apart, scalar(graph, MASKED)])
  const positions = lengthOfMask(graph, call)
  const shape = node(graph, 'Concat', [ints(graph, 0, kvHeads, -1), positions], { axis: 0 })
  return node(graph, 'Reshape', [hidden, shape])
}

/** Whether each token sees each position: bool, batch x 1 x 1 x tokens x positions. */
function visible(graph: Graph, call: Call, window: number | undefined): string {
  const zero = constant(graph, 'int64', [0], [])
  const one = constant(graph, 'int64', [1], [])
  const scalarOf = (value: string) => reshape(graph, value)
  const all = scalarOf(lengthOfMask(graph, call))
  const tokens = scalarOf(slice(graph, call.shape, 1, 2, 0))
  const places = node(graph, 'Range', [zero, all, one])
  const own = node(graph, 'Unsqueeze', [
    node(graph, 'Range', [node(graph, 'Sub', [all, tokens]), all, one]),
    ints(graph, 1),
  ])
  const past = node(graph, 'LessOrEqual', [places, own])
  const near =
    window === undefined
      ? past
      : node(graph, 'And', [
          past,
          node(graph, 'Less', [node(graph, 'Sub', [own, places]), constant(graph, 'int64', [window], [])]),
        ])
  const present = node(graph, 'Unsqueeze', [cast(graph, call.mask, 'bool'), ints(graph, 1, 2, 3)])
  return node(graph, 'And', [near, present])
}

function lengthOfMask(graph: Graph, { mask }: Call): string {
  return node(graph, 'Shape', [mask], { start: 1, end: 2 })
}

/** Keys or values of all positions: those of before are an input, all are an output. */
function withPast(
  graph: Graph,
  { kvHeads, headDim }: AttentionDescription,
  index: number,
  what: 'key' | 'value',
  own: string,
): string {
  const dims = (positions: string) => ['batch_size', kvHeads, positions, headDim]
  const past = input(graph, {
    name: `past_key_values.${index}.${what}`,
    type: 'float32',
    dims: dims('past_sequence_length'),
  })
  const all = node(graph, 'Concat', [past, own], { axis: 2 })
  output(graph, all, {
    name: `present.${index}.${what}`,
    type: 'float32',
    dims: dims('total_sequence_length'),
  })
  return all
}

/** Rows of heads, as batch x heads x tokens x headDim. */
function headsOf(graph: Graph, call: Call, value: string, heads: number, headDim: number): string {
  const shape = node(graph, 'Concat', [call.shape, ints(graph, heads, headDim)], { axis: 0 })
  return node(graph, 'Transpose', [node(graph, 'Reshape', [value, shape])], { perm: [0, 2, 1, 3] })
}

function joinedReshape(graph: Graph, value: string, dims: readonly number[]): string {
  return reshape(graph, value, 0, ...dims)
}

async function projected(
  weights: GraphWeights,
  attention: AttentionDescription,
  x: string,
): Promise<{ queries: string; keys: string; values: string }> {
  const { heads, kvHeads, headDim, clip, queryNorm, keyNorm } = attention
  const raw = await rawProjections(weights, attention, x)
  const { graph } = weights
  const limited = (value: string) =>
    clip === undefined ? value : node(graph, 'Clip', [value, scalar(graph, -clip), scalar(graph, clip)])
  const normed = async (value: string, description: typeof queryNorm, count: number) =>
    limited(description ? await norm(weights, description, value, count * headDim) : value)
  return {
    queries: await normed(raw.queries, queryNorm, heads),
    keys: await normed(raw.keys, keyNorm, kvHeads),
    values: limited(raw.values),
  }
}

async function rawProjections(
  weights: GraphWeights,
  { heads, kvHeads, headDim, projections }: AttentionDescription,
  x: string,
): Promise<{ queries: string; keys: string; values: string }> {
  const { graph } = weights
  const own = (description: LinearDescription) => linear(weights, description, x)
  if (projections.kind === 'separate') {
    const { queries, keys, values } = projections
    return { queries: await own(queries), keys: await own(keys), values: await own(values) }
  }
  const all = await own(projections.all)
  if (projections.order === 'parts') {
    const [q, k] = [heads * headDim, kvHeads * headDim]
    return {
      queries: slice(graph, all, 0, q, 1),
      keys: slice(graph, all, q, q + k, 1),
      values: slice(graph, all, q + k, q + 2 * k, 1),
    }
  }
  const apart = reshape(graph, all, -1, heads, 3, headDim)
  const part = (which: number) =>
    reshape(graph, slice(graph, apart, which, which + 1, 2), -1, heads * headDim)
  return { queries: part(0), keys: part(1), values: part(2) }
}
