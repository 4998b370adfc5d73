import type { Checkpoint } from '../../../checkpoint/checkpoint.js'
import { encodeFloats } from '../../../checkpoint/dtype.js'
import type { CheckpointWeights } from '../../../checkpoint/model-weights.js'
import { findTensor } from '../../../checkpoint/tensor-source.js'
import { NumericError } from '../../../common/errors.js'
import { assertFinite, matrix } from '../../../common/matrix.js'
import { bytesOf } from '../../../common/view-bytes.js'
import type { LinearDescription } from '../../../model/decoder/description.js'
import { readTensor } from '../../../model/decoder/weights.js'
import { times } from '../decoder/layers.js'
import type { NextGate } from '../decoder/stages.js'
import { cast, constant, type Graph, node, weight } from '../graph.js'
import {
  fitsBlocks,
  type GraphScalar,
  scalarProduct,
  scalarRowsOf,
  scalarValues,
  scalarWeight,
} from './scalar-weight.js'
import { type GraphMatrix, vqWeight } from './vq-weight.js'

/** How weights are written. */
export type OnnxWeights = 'packed' | 'nbits' | 'dense16' | 'dense32'

/** All values of {@link OnnxWeights}. */
export const onnxWeights: readonly OnnxWeights[] = ['packed', 'nbits', 'dense16', 'dense32']

/** The weights of a model on their way into a graph. */
export interface GraphWeights {
  readonly graph: Graph
  readonly checkpoint: Checkpoint
  readonly weights: CheckpointWeights
  readonly form: OnnxWeights
  /** Matrices that are there already, by the name of their tensor: an embedding may be the head too. */
  readonly matrices: Map<string, Promise<GraphWeight>>
  /** The name in the graph of what each linear layer reads, by the layer's name; filled as layers are added. */
  readonly inputs: Map<string, string>
  /** The gate of the next weight that is decoded as a whole. */
  readonly nextGate: NextGate
  /** Told of each weight before it is written. */
  readonly onWeight: (name: string) => void
}

/** A matrix as it lies in a graph. */
export type GraphWeight =
  | ({ readonly kind: 'matrix' } & GraphMatrix)
  /** float16, to be multiplied by a power of two. */
  | { readonly kind: 'halves'; readonly stored: string; readonly scale: number }
  | { readonly kind: 'scalar'; readonly layer: GraphScalar }
  | { readonly kind: 'product'; readonly multiply: (x: string) => string }

/** Largest magnitude of float16. */
const LARGEST_HALF = 65504

/** `x W^T + b` for a linear layer and `x` (float32, tokens x cols). */
export async function linear(
  weights: GraphWeights,
  { module, rows, cols, bias }: Pick<LinearDescription, 'module' | 'rows' | 'cols' | 'bias'>,
  x: string,
): Promise<string> {
  weights.inputs.set(module, x)
  const added = bias ? await vector(weights, `${module}.bias`, rows) : undefined
  return product(weights, await matrixOf(weights, `${module}.weight`, [rows, cols]), x, added)
}

/** `x W^T + b` for a matrix in the graph. */
export function product(
  { graph }: GraphWeights,
  stored: GraphWeight,
  x: string,
  bias: string | undefined,
): string {
  if (stored.kind === 'product') {
    const multiplied = stored.multiply(x)
    return bias === undefined ? multiplied : node(graph, 'Add', [multiplied, bias])
  }
  const { value, permutation, scale = 1 }: ExpandedMatrix = expanded(graph, stored)
  const read = permutation
    ? node(graph, 'Gather', [x, constant(graph, 'int32', Int32Array.from(permutation))], { axis: 1 })
    : x
  const attributes = { transB: 1, ...(scale !== 1 && { alpha: { float: scale } }) }
  return node(graph, 'Gemm', bias === undefined ? [read, value] : [read, value, bias], attributes)
}

/** Rows of a matrix by their numbers (int64, one dimension): float32, ids x cols. Of packed rows only these are decoded. */
export function rowsOfMatrix(graph: Graph, stored: GraphWeight, ids: string): string {
  if (stored.kind === 'scalar') return scalarRowsOf(graph, stored.layer, ids)
  if (stored.kind === 'halves') {
    const found = cast(graph, node(graph, 'Gather', [stored.stored, ids], { axis: 0 }), 'float32')
    return times(graph, found, stored.scale)
  }
  const { value, permutation } = expanded(graph, stored)
  const rows = node(graph, 'Gather', [value, ids], { axis: 0 })
  if (permutation === undefined) return rows
  const places = new Int32Array(permutation.length)
  for (const [place, col] of permutation.entries()) places[col] = place
  return node(graph, 'Gather', [rows, constant(graph, 'int32', places)], { axis: 1 })
}

/** A matrix of the model, in the form it is written in. @param isTable whether rows of it are looked up */
export function matrixOf(
  weights: GraphWeights,
  name: string,
  shape: readonly [rows: number, cols: number],
  isTable = false,
): Promise<GraphWeight> {
  const known = weights.matrices.get(name)
  if (known !== undefined) return known
  weights.onWeight(name)
  const added = addMatrix(weights, name, shape, isTable)
  weights.matrices.set(name, added)
  return added
}

/** Values of a norm or a bias as a constant. */
export async function vector({ graph, weights }: GraphWeights, name: string, size: number): Promise<string> {
  return constant(graph, 'float32', await readTensor(weights, name, [size], 'values'))
}

async function addMatrix(
  { graph, checkpoint, weights, form, nextGate }: GraphWeights,
  name: string,
  shape: readonly [number, number],
  isTable: boolean,
): Promise<GraphWeight> {
  const [rows, cols] = shape
  if (form === 'dense16' || form === 'dense32') {
    const values = await weights.floats(name)
    assertFinite(matrix(rows, cols, values), name)
    if (form === 'dense32') {
      return { kind: 'matrix', value: await weight(graph, name, 'float32', shape, bytesOf(values)) }
    }
    requireHalves(name, values)
    return halves(graph, name, shape, encodeFloats('F16', values), 1)
  }
  const packed = await weights.packed(name)
  if (packed === undefined) {
    const { dtype } = findTensor(checkpoint.tensors, name, checkpoint.folder)
    const values = await weights.floats(name)
    assertFinite(matrix(rows, cols, values), name)
    if (dtype === 'F16') return halves(graph, name, shape, encodeFloats('F16', values), 1)
    if (dtype === 'BF16') return scaledHalves(graph, name, shape, values)
    return { kind: 'matrix', value: await weight(graph, name, 'float32', shape, bytesOf(values)) }
  }
  if ('layout' in packed)
    return { kind: 'matrix', ...(await vqWeight(graph, name, packed, nextGate(rows * cols))) }
  if (form === 'nbits' && !isTable && fitsBlocks(packed)) {
    return { kind: 'product', multiply: await scalarProduct(graph, name, packed) }
  }
  return { kind: 'scalar', layer: await scalarWeight(graph, name, packed, nextGate(rows * cols)) }
}

async function halves(
  graph: Graph,
  name: string,
  shape: readonly number[],
  bytes: Uint8Array,
  scale: number,
): Promise<GraphWeight> {
  return { kind: 'halves', stored: await weight(graph, name, 'float16', shape, bytes), scale }
}

/**
 * Weights of bfloat16, which runtimes for browsers lack, as float16 times a power of two that makes the largest nearly as
 * large as float16 goes: exact down to 2^-32 of it, and within 2^-40 of it below.
 */
function scaledHalves(
  graph: Graph,
  name: string,
  shape: readonly number[],
  values: Float32Array,
): Promise<GraphWeight> {
  const most = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
  const scale = most === 0 ? 1 : 2 ** Math.max(-126, Math.floor(Math.log2(most)) - 15)
  return halves(
    graph,
    name,
    shape,
    encodeFloats(
      'F16',
      values.map((value) => value / scale),
    ),
    scale,
  )
}

/** A matrix whose values are to be multiplied by `scale`, if there is one. */
type ExpandedMatrix = GraphMatrix & { readonly scale?: number }

function expanded(graph: Graph, stored: GraphWeight): ExpandedMatrix {
  switch (stored.kind) {
    case 'matrix':
      return stored
    case 'halves':
      return { value: cast(graph, stored.stored, 'float32'), scale: stored.scale }
    case 'scalar':
      return { value: scalarValues(graph, stored.layer) }
    case 'product':
      throw new Error('a product has no values in the graph')
  }
}

function requireHalves(name: string, values: Float32Array): void {
  const at = values.findIndex((value) => Math.abs(value) > LARGEST_HALF)
  if (at < 0) return
  throw new NumericError(
    `${name}: value ${values[at]} is beyond the range of float16 (${LARGEST_HALF}); choose weights 'dense32' or 'packed'`,
  )
}
