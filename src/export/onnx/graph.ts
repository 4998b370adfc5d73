import { bytesOf } from '../../common/view-bytes.js'
import { type DataType, dataTypes } from './data-types.js'

/** The set of operators that need no domain. */
export const OPSET = 21
/** The domain of onnxruntime's own operators. */
export const MICROSOFT = 'com.microsoft'

/** The value of an attribute: whole numbers as they are, others told apart. */
export type Attribute =
  | number
  | readonly number[]
  | { readonly float: number }
  | { readonly text: string }
  | { readonly branch: Branch }

/** A graph within an operation, which sees the values around it. */
export interface Branch {
  readonly nodes: readonly GraphNode[]
  readonly output: GraphValue
}

/** One operation. */
export interface GraphNode {
  readonly op: string
  readonly domain: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: Readonly<Record<string, Attribute>>
}

/** A constant tensor. */
export interface Initializer {
  readonly name: string
  readonly type: DataType
  readonly dims: readonly number[]
  /** Row-major, little-endian; or where the store put them. */
  readonly data: Uint8Array | StoredData
}

/** Bytes in one of the files that a {@link DataStore} writes. */
export interface StoredData {
  /** The number of the file. */
  readonly file: number
  readonly offset: number
  readonly bytes: number
}

/** Takes the bytes of large constants, so that a model needs not be in memory. */
export type DataStore = (bytes: Uint8Array) => Promise<StoredData>

/** An input or output; sizes that only a run knows have names. */
export interface GraphValue {
  readonly name: string
  readonly type: DataType
  readonly dims: readonly (number | string)[]
}

/** A graph that is being written. Values go by name. */
export interface Graph {
  readonly nodes: GraphNode[]
  readonly initializers: Initializer[]
  readonly inputs: GraphValue[]
  readonly outputs: GraphValue[]
  readonly store: DataStore
  /** Names of constants and of what nodes give, by what makes them: the same is not made twice. */
  readonly known: Map<string, string>
}

/** An empty graph. */
export function createGraph(store: DataStore): Graph {
  return { nodes: [], initializers: [], inputs: [], outputs: [], store, known: new Map() }
}

/**
 * Adds an operation, unless the same is there already. An input that is left out is `''`.
 *
 * @returns the name of its output
 */
export function node(
  graph: Graph,
  op: string,
  inputs: readonly string[],
  attributes: GraphNode['attributes'] = {},
  domain = '',
): string {
  const key = JSON.stringify([op, domain, inputs, attributes])
  const known = graph.known.get(key)
  if (known !== undefined) return known
  const output = `${op}_${graph.nodes.length}`
  graph.nodes.push({ op, domain, inputs, outputs: [output], attributes })
  graph.known.set(key, output)
  return output
}

/** The largest values along the last axis and their places (int64), of equal ones the first. */
export function largest(graph: Graph, value: string, count: number): { values: string; places: string } {
  const outputs = ['values', 'places'].map((what) => `TopK_${graph.nodes.length}_${what}`)
  graph.nodes.push({ op: 'TopK', domain: '', inputs: [value, ints(graph, count)], outputs, attributes: {} })
  return { values: outputs[0], places: outputs[1] }
}

/** Adds an output that is another name of a value; `logits` goes in front of all others. */
export function output(graph: Graph, value: string, described: GraphValue): void {
  graph.nodes.push({
    op: 'Identity',
    domain: '',
    inputs: [value],
    outputs: [described.name],
    attributes: {},
  })
  if (described.name === 'logits') graph.outputs.unshift(described)
  else graph.outputs.push(described)
}

/** Adds an input. */
export function input(graph: Graph, described: GraphValue): string {
  graph.inputs.push(described)
  return described.name
}

/** Adds a small constant, unless the same is there already. @param dims default: one dimension */
export function constant(
  graph: Graph,
  type: DataType,
  values: readonly number[] | Float32Array | Int32Array | Uint8Array,
  dims: readonly number[] = [values.length],
): string {
  const data = encode(type, values)
  const key = JSON.stringify([type, dims, Buffer.from(data).toString('base64')])
  const known = graph.known.get(key)
  if (known !== undefined) return known
  const name = `constant_${graph.initializers.length}`
  graph.initializers.push({ name, type, dims, data })
  graph.known.set(key, name)
  return name
}

/** A constant of one float32 and no dimensions. */
export function scalar(graph: Graph, value: number): string {
  return constant(graph, 'float32', [value], [])
}

/** A constant of int64, as shapes and axes are. */
export function ints(graph: Graph, ...values: number[]): string {
  return constant(graph, 'int64', values)
}

/** Adds a large constant under a name of its own. */
export async function weight(
  graph: Graph,
  name: string,
  type: DataType,
  dims: readonly number[],
  bytes: Uint8Array,
): Promise<string> {
  graph.initializers.push({ name, type, dims, data: await graph.store(bytes) })
  return name
}

/** Converts a value to another type. */
export function cast(graph: Graph, value: string, type: DataType): string {
  return node(graph, 'Cast', [value], { to: dataTypes[type] })
}

/** Gives a value another shape; 0 keeps a size, -1 is what is left. */
export function reshape(graph: Graph, value: string, ...dims: number[]): string {
  return node(graph, 'Reshape', [value, ints(graph, ...dims)])
}

/** Elements `start` to `end - 1` along an axis. */
export function slice(graph: Graph, value: string, start: number, end: number, axis: number): string {
  return node(graph, 'Slice', [value, ints(graph, start), ints(graph, end), ints(graph, axis)])
}

function encode(type: DataType, values: ArrayLike<number>): Uint8Array {
  const list = Array.from(values)
  switch (type) {
    case 'float32':
      return bytesOf(Float32Array.from(list))
    case 'int32':
      return bytesOf(Int32Array.from(list))
    case 'int64':
      return bytesOf(BigInt64Array.from(list, BigInt))
    case 'float16':
      return bytesOf(Uint16Array.from(list))
    default:
      return bytesOf(type === 'int8' ? Int8Array.from(list) : Uint8Array.from(list))
  }
}
