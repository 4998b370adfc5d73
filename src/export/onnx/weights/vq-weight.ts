import { constantCodebook, widthFactor } from '../../../codebook/constant-codebook.js'
import { bytesOf } from '../../../common/view-bytes.js'
import { decodeBfloats } from '../../../kernels/half.js'
import { scaleLevels } from '../../../packing/block-scales.js'
import { type PackedLayer, unpackLayer } from '../../../packing/pack-layer.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  indexBitsOf,
  rowGroupsOf,
  type VqLayer,
  type VqLayout,
  vectorsPerRow,
} from '../../../packing/vq-layer.js'
import { runwise } from '../decoder/blocks.js'
import { gated } from '../decoder/stages.js'
import { digitsOf, joinDigits, packStream, readDigits, streamBytes } from '../decoder/windows.js'
import { cast, constant, type Graph, node, reshape, slice, weight } from '../graph.js'

/** A weight matrix in a graph. */
export interface GraphMatrix {
  /** float32, rows x cols. */
  readonly value: string
  /** Where columns were reordered: column `j` belongs to input `permutation[j]`. */
  readonly permutation?: Uint32Array
}

/** How the vectors of a row are laid out: by blocks that share a scale where these are regular, else all in one run. */
interface Shape {
  readonly dims: readonly number[]
  /** Weights of a block; undefined: blocks are not regular. */
  readonly block: number | undefined
}

/**
 * Adds a layer of vectors: what is stored stays as small as it is, and the graph looks up the weights. The streams of
 * indices run down the columns, so that the key of a trellis is a window of its column's stream. Values keep the shape
 * that the last step needs: a runtime that decodes all layers at once holds what each step gives.
 *
 * @param gate of the stage that it is decoded in
 * @returns the weights, in stored order
 */
export async function vqWeight(
  graph: Graph,
  name: string,
  packed: PackedLayer,
  gate?: string,
): Promise<GraphMatrix> {
  const layer = unpackLayer(packed)
  const { layout, permutation } = layer
  const shape = shapeOf(layout)
  const keys = await columnKeys(graph, name, layer, shape, gate)
  const table = layout.trellis
    ? trellisTable(graph, layout, shape)
    : await codebookTable(graph, name, packed, shape)
  const looked = node(graph, 'Gather', [table.value, table.offset(keys)], { axis: 0 })
  const value = await scaled(graph, name, packed, layout, shape, looked)
  return { value, ...(permutation && { permutation }) }
}

function shapeOf(layout: VqLayout): Shape {
  const { cols, vectorDim, columnsPerGroup, scaleBlockSize } = layout
  const block = scaleBlockSize ?? columnsPerGroup
  if (cols % block !== 0 || block % vectorDim !== 0)
    return { dims: [vectorsPerRow(layout)], block: undefined }
  return { dims: [cols / block, block / vectorDim], block }
}

/** The numbers of the centroids within their codebooks, int32, rows x the dimensions of the vectors x 1. */
async function columnKeys(
  graph: Graph,
  name: string,
  { layout, indices }: VqLayer,
  { dims: inRow }: Shape,
  gate: string | undefined,
): Promise<string> {
  const { rows, trellis, rowsPerGroup } = layout
  const vectors = vectorsPerRow(layout)
  const bits = trellis?.keyBits ?? indexBitsOf(layout)
  const widths = trellis?.widths ?? new Uint8Array(vectors).fill(bits)
  const steps = [...new Set(widths)].sort((a, b) => a - b)
  const digits = digitsOf(bits, steps[0])
  const parts: string[] = []
  const order: number[] = []
  for (const step of steps) {
    const columns = [...widths.keys()].filter((v) => widths[v] === step)
    const streams = { count: rows, step }
    const data = new Uint8Array(streamBytes(streams) * columns.length)
    for (const [c, v] of columns.entries()) {
      const indexOf = (row: number) => indices[row * vectors + v] & (2 ** step - 1)
      packStream(indexOf, streams, data, c, columns.length)
    }
    const dims = [streamBytes(streams), ...(steps.length === 1 ? inRow : [columns.length]), 1]
    const stored = await weight(graph, `${name}.indices.${step}`, 'uint8', dims, data)
    const restart = trellis ? rowsPerGroup : rows
    const windows = { ...streams, bits, restart }
    parts.push(readDigits(graph, gated(graph, stored, gate), dims.length, windows, digits))
    order.push(...columns)
  }
  if (parts.length === 1) return joinDigits(graph, parts[0], digits)
  const places = new Int32Array(vectors)
  for (const [place, v] of order.entries()) places[v] = place
  const joined = node(graph, 'Concat', parts, { axis: 1 })
  const bytes = node(graph, 'Gather', [joined, constant(graph, 'int32', places, inRow)], { axis: 1 })
  return joinDigits(graph, bytes, digits)
}

/** Centroids one below the other, and how a number within a codebook becomes one within all. */
interface Table {
  readonly value: string
  offset(keys: string): string
}

/** The constant codebook, times the factor of each width that occurs. */
function trellisTable(graph: Graph, layout: VqLayout, { dims }: Shape): Table {
  const { vectorDim } = layout
  const { widths } = layout.trellis!
  const centroids = centroidsOf(layout)
  const elements = constantCodebook(vectorDim, centroids)
  const kinds = [...new Set(widths)].sort((a, b) => a - b)
  const plain = cast(graph, constant(graph, 'int8', Array.from(elements), [1, elements.length]), 'float32')
  const factors = kinds.map((width) => widthFactor(vectorDim, width))
  const products = node(graph, 'Mul', [plain, constant(graph, 'float32', factors, [kinds.length, 1])])
  const first = Int32Array.from(widths, (width) => kinds.indexOf(width) * centroids)
  return {
    value: reshape(graph, products, kinds.length * centroids, vectorDim),
    offset: (keys) =>
      kinds.length === 1 ? keys : node(graph, 'Add', [keys, constant(graph, 'int32', first, [...dims, 1])]),
  }
}

/** The codebooks of all groups, each times its scale. */
async function codebookTable(
  graph: Graph,
  name: string,
  { layout, codebooks, codebookScales }: PackedLayer,
  { dims: inRow }: Shape,
): Promise<Table> {
  const { rows, rowsPerGroup, columnsPerGroup, vectorDim } = layout
  const [across, groups] = [columnGroupsOf(layout), codebookScales.length]
  const centroids = centroidsOf(layout)
  const type = codebooks instanceof Int8Array ? 'int8' : 'float16'
  const dims = [groups, centroids * vectorDim]
  const elements = await weight(graph, `${name}.codebooks`, type, dims, bytesOf(codebooks))
  const products = node(graph, 'Mul', [
    cast(graph, elements, 'float32'),
    await groupScales(graph, name, codebookScales, [groups, 1]),
  ])
  const down = Int32Array.from({ length: rows }, (_, r) => Math.floor(r / rowsPerGroup) * across * centroids)
  const along = Int32Array.from({ length: vectorsPerRow(layout) }, (_, v) => {
    return Math.floor((v * vectorDim) / columnsPerGroup) * centroids
  })
  return {
    value: reshape(graph, products, groups * centroids, vectorDim),
    offset(keys) {
      if (groups === 1) return keys
      const first = node(graph, 'Add', [
        constant(graph, 'int32', along, [...inRow, 1]),
        constant(graph, 'int32', down, [rows, ...inRow.map(() => 1), 1]),
      ])
      return node(graph, 'Add', [keys, first])
    },
  }
}

async function groupScales(
  graph: Graph,
  name: string,
  scales: Uint16Array,
  dims: readonly number[],
): Promise<string> {
  const values = new Float32Array(scales.length)
  decodeBfloats(scales, values)
  return weight(graph, `${name}.codebook_scales`, 'float32', dims, bytesOf(values))
}

/**
 * The weights, rows x cols: vectors times the scales of their blocks and, with a trellis, of their groups. Plain codebooks
 * have theirs already.
 *
 * @param looked rows x the dimensions of the vectors x 1 x vectorDim
 */
async function scaled(
  graph: Graph,
  name: string,
  packed: PackedLayer,
  layout: VqLayout,
  { dims, block }: Shape,
  looked: string,
): Promise<string> {
  const { rows, cols, columnsPerGroup, scaleBlockSize, vectorDim } = layout
  const scales = await scalesOfRuns(graph, name, packed, layout)
  if (block !== undefined) {
    if (scales === undefined) return reshape(graph, looked, rows, cols)
    const own = reshape(graph, scales, rows, dims[0], 1, 1, 1)
    return reshape(graph, node(graph, 'Mul', [looked, own]), rows, cols)
  }
  const whole = reshape(graph, looked, rows, dims[0] * vectorDim)
  const values = dims[0] * vectorDim === cols ? whole : slice(graph, whole, 0, cols, 1)
  if (scales === undefined) return values
  return runwise(graph, 'Mul', values, [rows, cols], scaleBlockSize ?? columnsPerGroup, scales)
}

/** The scales of the runs of columns that share one, rows x runs; undefined where there are none to multiply by. */
async function scalesOfRuns(
  graph: Graph,
  name: string,
  { blockScales, codebookScales }: PackedLayer,
  layout: VqLayout,
): Promise<string | undefined> {
  const { rows, cols, rowsPerGroup, columnsPerGroup, scaleBlockSize, trellis } = layout
  const levels =
    blockScales && (await blockLevels(graph, name, blockScales.codes, blockScales.ratio[0], layout))
  if (!trellis) return levels
  const size = scaleBlockSize ?? columnsPerGroup
  const groups = [rowGroupsOf(layout), columnGroupsOf(layout)]
  const scales = await groupScales(graph, name, codebookScales, groups)
  const ofRows = Int32Array.from({ length: rows }, (_, r) => Math.floor(r / rowsPerGroup))
  const ofBlocks = Int32Array.from({ length: Math.ceil(cols / size) }, (_, b) => {
    return Math.floor((b * size) / columnsPerGroup)
  })
  const inRows = node(graph, 'Gather', [scales, constant(graph, 'int32', ofRows)], { axis: 0 })
  const inBlocks = node(graph, 'Gather', [inRows, constant(graph, 'int32', ofBlocks)], { axis: 1 })
  return levels === undefined ? inBlocks : node(graph, 'Mul', [inBlocks, levels])
}

/** The scales of blocks, rows x blocks: two codes of 4 bits a byte, the first in the low half. */
async function blockLevels(
  graph: Graph,
  name: string,
  codes: Uint8Array,
  ratio: number,
  layout: VqLayout,
): Promise<string> {
  const { rows } = layout
  const [blocks, bytes] = [blocksPerRow(layout), codes.length / rows]
  const stored = await weight(graph, `${name}.scales`, 'uint8', [rows, bytes, 1], codes)
  const low = node(graph, 'BitwiseAnd', [stored, constant(graph, 'uint8', [15], [])])
  const high = node(graph, 'BitShift', [stored, constant(graph, 'uint8', [4], [])], {
    direction: { text: 'RIGHT' },
  })
  const both = reshape(graph, node(graph, 'Concat', [low, high], { axis: 2 }), rows, 2 * bytes)
  const own = blocks === 2 * bytes ? both : slice(graph, both, 0, blocks, 1)
  const levels = constant(graph, 'float32', scaleLevels(ratio))
  return node(graph, 'Gather', [levels, cast(graph, own, 'int32')], { axis: 0 })
}
