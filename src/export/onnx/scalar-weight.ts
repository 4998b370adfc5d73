import { groupsPerRow, type PackedScalarLayer, unpackScalar } from '../../packing/scalar-layer.js'
import { runwise } from './blocks.js'
import { bytesOf, cast, type Graph, MICROSOFT, node, weight } from './graph.js'
import { packStream, readWindows, streamBytes } from './windows.js'

/** A layer of codes, scales and zero points in a graph. */
export interface GraphScalar {
  readonly rows: number
  readonly cols: number
  readonly bits: number
  readonly groupSize: number
  /** uint8, rows x bytes: a stream of codes per row. */
  readonly codes: string
  /** float16, rows x groups. */
  readonly scales: string
  /** uint8, rows x groups. */
  readonly zeros: string
}

/** Adds a layer of codes as it is stored. */
export async function scalarWeight(
  graph: Graph,
  name: string,
  packed: PackedScalarLayer,
): Promise<GraphScalar> {
  const { rows, cols, bits, groupSize, codes, scales, zeros } = unpackScalar(packed)
  const streams = { count: cols, step: bits }
  const bytes = streamBytes(streams)
  const data = new Uint8Array(rows * bytes)
  for (let r = 0; r < rows; r++) {
    packStream((col) => codes[r * cols + col], streams, data, r * bytes, 1)
  }
  const groups = groupsPerRow(cols, groupSize)
  return {
    rows,
    cols,
    bits,
    groupSize,
    codes: await weight(graph, `${name}.codes`, 'uint8', [rows, bytes], data),
    scales: await weight(graph, `${name}.scales`, 'float16', [rows, groups], bytesOf(scales)),
    zeros: await weight(graph, `${name}.zeros`, 'uint8', [rows, groups], bytesOf(zeros)),
  }
}

/** The weights of all rows, float32, rows x cols. */
export function scalarValues(graph: Graph, layer: GraphScalar): string {
  return decode(graph, layer, layer.rows, layer.codes, layer.scales, layer.zeros)
}

/** The weights of the rows that `ids` (int64) names, float32, ids x cols. */
export function scalarRowsOf(graph: Graph, layer: GraphScalar, ids: string): string {
  const rows = (value: string) => node(graph, 'Gather', [value, ids], { axis: 0 })
  // as many rows as there are ids
  return decode(graph, layer, -1, rows(layer.codes), rows(layer.scales), rows(layer.zeros))
}

function decode(
  graph: Graph,
  { cols, bits, groupSize }: GraphScalar,
  rows: number,
  codes: string,
  scales: string,
  zeros: string,
): string {
  const whole = readWindows(graph, codes, 1, { count: cols, step: bits, bits, restart: cols })
  const [values, shape] = [cast(graph, whole, 'float32'), [rows, cols] as const]
  const shifted = runwise(graph, 'Sub', values, shape, groupSize, cast(graph, zeros, 'float32'))
  return runwise(graph, 'Mul', shifted, shape, groupSize, cast(graph, scales, 'float32'))
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
