import protobuf from 'protobufjs'
import { dataTypes } from './data-types.js'
import {
  type Attribute,
  type Graph,
  type GraphNode,
  type Initializer,
  MICROSOFT,
  OPSET,
  type StoredData,
} from './graph.js'
import { onnxSchema } from './schema.js'

/** The version of the file format that goes with {@link OPSET}. */
const IR_VERSION = 10
const EXTERNAL = 1
const attributeTypes = { float: 1, int: 2, string: 3, graph: 5, ints: 7 } as const

/** How a model says what wrote it. */
export interface Producer {
  readonly version: string
  /** Facts of the model, by name. */
  readonly metadata: Readonly<Record<string, string>>
}

/**
 * The bytes of an ONNX file.
 *
 * @param fileOf the name of the file that holds stored data; undefined: `dataOf` gives what the file itself is to hold
 */
export function encodeModel(
  graph: Graph,
  { version, metadata }: Producer,
  place: { fileOf(data: StoredData): string } | { dataOf(data: StoredData): Uint8Array },
): Uint8Array {
  const type = protobuf.Root.fromJSON(onnxSchema).lookupType('onnx.ModelProto')
  const model = {
    irVersion: IR_VERSION,
    producerName: 'gptvq',
    producerVersion: version,
    opsetImport: [
      { domain: '', version: OPSET },
      { domain: MICROSOFT, version: 1 },
    ],
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
    graph: {
      name: 'decoder',
      node: graph.nodes.map(nodeOf),
      initializer: graph.initializers.map((one) => tensorOf(one, place)),
      input: graph.inputs.map(valueInfo),
      output: graph.outputs.map(valueInfo),
    },
  }
  return type.encode(model).finish()
}

function nodeOf({ op, domain, inputs, outputs, attributes }: GraphNode): object {
  return {
    input: inputs,
    output: outputs,
    name: `${op}/${outputs[0]}`,
    opType: op,
    domain,
    attribute: Object.entries(attributes).map(([name, value]) => ({ name, ...attributeOf(value) })),
  }
}

function attributeOf(value: Attribute): object {
  if (typeof value === 'number') return { i: value, type: attributeTypes.int }
  if ('float' in value) return { f: value.float, type: attributeTypes.float }
  if ('text' in value) return { s: new TextEncoder().encode(value.text), type: attributeTypes.string }
  if ('branch' in value) {
    const { nodes, output } = value.branch
    const graph = { name: output.name, node: nodes.map(nodeOf), output: [valueInfo(output)] }
    return { g: graph, type: attributeTypes.graph }
  }
  return { ints: value, type: attributeTypes.ints }
}

function tensorOf(
  { name, type, dims, data }: Initializer,
  place: Parameters<typeof encodeModel>[2],
): Record<string, unknown> {
  const tensor = { name, dims, dataType: dataTypes[type] }
  if (data instanceof Uint8Array) return { ...tensor, rawData: data }
  if ('dataOf' in place) return { ...tensor, rawData: place.dataOf(data) }
  const { offset, bytes } = data
  const entries = { location: place.fileOf(data), offset: String(offset), length: String(bytes) }
  const externalData = Object.entries(entries).map(([key, value]) => ({ key, value }))
  return { ...tensor, externalData, dataLocation: EXTERNAL }
}

function valueInfo({ name, type, dims }: Graph['inputs'][number]): object {
  const dim = dims.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }))
  return { name, type: { tensorType: { elemType: dataTypes[type], shape: { dim } } } }
}
