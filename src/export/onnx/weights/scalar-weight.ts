import { bytesOf } from '../../../common/view-bytes.js'
import { groupsPerRow, type PackedScalarLayer, unpackScalar } from '../../../packing/scalar-layer.js'
import { runwise } from '../decoder/blocks.js'
import { gated } from '../decoder/stages.js'
import { packStream, readCodes, streamBytes } from '../decoder/windows.js'
import { cast, constant, type Graph, MICROSOFT, node, reshape, weight } from '../graph.js'

/** A layer of codes, scales and zero points in a graph. */
export interface GraphScalar {
  readonly rows: number
  readonly cols: number
  readonly bits: number
  readonly groupSize: number
  /** uint8: a stream of codes per group, rows x groups x bytes, where groups are whole bytes; else one per row, rows x bytes. */
  readonly codes: string
  /** float16, rows x groups. */
  readonly scales: string
  /** uint8, rows x groups. */
  readonly zeros: string
  /** Of the stage that all rows are decoded in. */
  readonly gate?: string
}

/** Adds a layer of codes as it is stored. */
export async function scalarWeight(
  graph: Graph,
  name: string,
  packed: PackedScalarLayer,
  gate?: string,
): Promise<GraphScalar> {
  const { rows, cols, bits, groupSize, codes, scales, zeros } = unpackScalar(packed)
  const groups = groupsPerRow(cols, groupSize)
  const isRegular = hasWholeGroups(packed)
  const streams = { count: isRegular ? groupSize : cols, step: bits }
  const bytes = streamBytes(streams)
  const data = new Uint8Array(((rows * cols) / streams.count) * bytes)
  for (let s = 0; s < data.length / bytes; s++) {
    packStream((place) => codes[s * streams.count + place], streams, data, s * bytes, 1)
  }
  const dims = isRegular ? [rows, groups, bytes] : [rows, bytes]
  return {
    rows,
    cols,
    bits,
    groupSize,
    codes: await weight(graph, `${name}.codes`, 'uint8', dims, data),
    scales: await weight(graph, `${name}.scales`, 'float16', [rows, groups], bytesOf(scales)),
    zeros: await weight(graph, `${name}.zeros`, 'uint8', [rows, groups], bytesOf(zeros)),
    ...(gate !== undefined && { gate }),
  }
}

function hasWholeGroups({
  cols,
  bits,
  groupSize,
}: Pick<GraphScalar, 'cols' | 'bits' | 'groupSize'>): boolean {
  return cols % groupSize === 0 && (groupSize * bits) % 8 === 0
}

/** The weights of all rows, float32, rows x cols. */
export function scalarValues(graph: Graph, layer: GraphScalar): string {
  return decode(graph, layer, layer.rows, gated(graph, layer.codes, layer.gate), layer.scales, layer.zeros)
}

/** The weights of the rows that `ids` (int64) names, float32, ids x cols. */
export function scalarRowsOf(graph: Graph, layer: GraphScalar, ids: string): string {
  const rows = (value: string) => node(graph, 'Gather', [value, ids], { axis: 0 })
  // as many rows as there are ids
  return decode(graph, layer, -1, rows(layer.codes), rows(layer.scales), rows(layer.zeros))
}

function decode(
  graph: Graph,
  layer: GraphScalar,
  rows: number,
  codes: string,
  scales: string,
  zeros: string,
): string {
  const { cols, bits, groupSize } = layer
  const isRegular = hasWholeGroups(layer)
  const count = isRegular ? groupSize : cols
  const read = readCodes(graph, codes, isRegular ? 3 : 2, { count, step: bits, bits, restart: count })
  const [values, own] = [cast(graph, read, 'float32'), cast(graph, scales, 'float32')]
  const first = cast(graph, zeros, 'float32')
  if (!isRegular) {
    const shape = [rows, cols] as const
    return runwise(
      graph,
      'Mul',
      runwise(graph, 'Sub', values, shape, groupSize, first),
      shape,
      groupSize,
      own,
    )
  }
  const each = (value: string) => node(graph, 'Unsqueeze', [value, constant(graph, 'int64', [2])])
  const steps = node(graph, 'Sub', [values, each(first)])
  return reshape(graph, node(graph, 'Mul', [steps, each(own)]), rows, cols)
}

/** Whether onnxruntime multiplies by such a layer as it is, with 4 bits a code. */
export function fitsBlocks({ bits, groupSize, cols }: PackedScalarLayer): boolean {
  return bits <= 4 && groupSize >= 16 && Math.log2(groupSize) % 1 === 0 && groupSize <= nextPower(cols)
}

/** `x` (float32, tokens x cols) times the weights, which stay packed: tokens x rows. */
export async function scalarProduct(
  graph: Graph,
  name: string,
  packed: PackedScalarLayer,
): Promise<(x: string) => string> {
  const { rows, cols, groupSize, codes, scales, zeros } = unpackScalar(packed)
  const groups = groupsPerRow(cols, groupSize)
  const nibbles = new Uint8Array((rows * groups * groupSize) / 2)
  const zeroBytes = Math.ceil(groups / 2)
  const packedZeros = new Uint8Array(rows * zeroBytes)
  const put = (target: Uint8Array, first: number, place: number, code: number) => {
    target[first + (place >> 1)] |= code << (4 * (place & 1))
  }
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) put(nibbles, (r * groups * groupSize) / 2, c, codes[r * cols + c])
    for (let g = 0; g < groups; g++) put(packedZeros, r * zeroBytes, g, zeros[r * groups + g])
  }
  const blob = groupSize / 2
  const inputs = [
    await weight(graph, `${name}.blocks`, 'uint8', [rows, groups, blob], nibbles),
    cast(
      graph,
      await weight(graph, `${name}.scales`, 'float16', [rows * groups], bytesOf(scales)),
      'float32',
    ),
    await weight(graph, `${name}.zeros`, 'uint8', [packedZeros.length], packedZeros),
  ]
  const attributes = { K: cols, N: rows, bits: 4, block_size: groupSize }
  return (x) => node(graph, 'MatMulNBits', [x, ...inputs], attributes, MICROSOFT)
}

function nextPower(cols: number): number {
  return 2 ** Math.ceil(Math.log2(cols))
}
