import type { INamespace } from 'protobufjs'

/**
 * The part of the public schema of ONNX (onnx.proto, version 2 of Protocol Buffers) that exported models use. Field
 * numbers are those of the schema.
 */
export const onnxSchema: INamespace = {
  nested: {
    onnx: {
      nested: {
        ModelProto: message({
          irVersion: field(1, 'int64'),
          opsetImport: list(8, 'OperatorSetIdProto'),
          producerName: field(2, 'string'),
          producerVersion: field(3, 'string'),
          graph: field(7, 'GraphProto'),
          metadataProps: list(14, 'StringStringEntryProto'),
        }),
        OperatorSetIdProto: message({ domain: field(1, 'string'), version: field(2, 'int64') }),
        StringStringEntryProto: message({ key: field(1, 'string'), value: field(2, 'string') }),
        GraphProto: message({
          node: list(1, 'NodeProto'),
          name: field(2, 'string'),
          initializer: list(5, 'TensorProto'),
          input: list(11, 'ValueInfoProto'),
          output: list(12, 'ValueInfoProto'),
        }),
        NodeProto: message({
          input: list(1, 'string'),
          output: list(2, 'string'),
          name: field(3, 'string'),
          opType: field(4, 'string'),
          attribute: list(5, 'AttributeProto'),
          domain: field(7, 'string'),
        }),
        AttributeProto: message({
          name: field(1, 'string'),
          f: field(2, 'float'),
          i: field(3, 'int64'),
          s: field(4, 'bytes'),
          g: field(6, 'GraphProto'),
          ints: list(8, 'int64'),
          type: field(20, 'int32'),
        }),
        TensorProto: message({
          dims: list(1, 'int64'),
          dataType: field(2, 'int32'),
          name: field(8, 'string'),
          rawData: field(9, 'bytes'),
          externalData: list(13, 'StringStringEntryProto'),
          dataLocation: field(14, 'int32'),
        }),
        ValueInfoProto: message({ name: field(1, 'string'), type: field(2, 'TypeProto') }),
        TypeProto: message({ tensorType: field(1, 'TensorTypeProto') }),
        TensorTypeProto: message({ elemType: field(1, 'int32'), shape: field(2, 'TensorShapeProto') }),
        TensorShapeProto: message({ dim: list(1, 'DimensionProto') }),
        DimensionProto: message({ dimValue: field(1, 'int64'), dimParam: field(2, 'string') }),
      },
    },
  },
}

interface Field {
  readonly id: number
  readonly type: string
  readonly rule?: 'repeated'
}

function message<T extends Record<string, Field>>(fields: T): { fields: T } {
  return { fields }
}

function field(id: number, type: string): Field {
  return { id, type }
}

function list(id: number, type: string): Field {
  return { id, type, rule: 'repeated' }
}
