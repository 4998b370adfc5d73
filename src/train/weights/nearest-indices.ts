import { wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import type { TrellisTask } from '../../kernels/trellis-contract.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  decodeBlockScales,
  decodeCodebooks,
  indexBitsOf,
  rowGroupsOf,
  trellisColumns,
  type VqLayer,
  vectorsPerRow,
} from '../../packing/vq-layer.js'

/**
 * The indices (keys, with a trellis) of a layer whose codebooks and scales are given that bring it nearest to `weights` in
 * the sum of squares.
 *
 * @param weights rows x cols, in the order of the layer's stored columns
 * @returns rows x vectorsPerRow
 */
export function nearestIndices(layer: VqLayer, weights: Float32Array): Uint16Array {
  const { layout } = layer
  const columnGroups = columnGroupsOf(layout)
  const indices = new Uint16Array(layout.rows * vectorsPerRow(layout))
  const codebooks = decodeCodebooks(layer)
  const scales = decodeBlockScales(layer)
  for (let group = 0; group < rowGroupsOf(layout) * columnGroups; group++) {
    const tasks = groupTasks(layer, group, weights, codebooks, scales, indices)
    kernels().searchTrellis(tasks)
  }
  return indices
}

/** One task for each column of vectors of a group. */
function groupTasks(
  { layout }: VqLayer,
  group: number,
  weights: Float32Array,
  codebooks: Float32Array,
  scales: Float32Array | undefined,
  indices: Uint16Array,
): TrellisTask[] {
  const { cols, rows: allRows, vectorDim: d, rowsPerGroup, columnsPerGroup, scaleBlockSize } = layout
  const columnGroups = columnGroupsOf(layout)
  const [k, perRow, blocks] = [centroidsOf(layout), vectorsPerRow(layout), blocksPerRow(layout)]
  const top = Math.floor(group / columnGroups) * rowsPerGroup
  const rows = Math.min(rowsPerGroup, allRows - top)
  const start = (group % columnGroups) * columnsPerGroup
  const end = Math.min(start + columnsPerGroup, cols)
  const trellis = trellisColumns(layout, start, end)
  const centroids = codebooks.subarray(group * k * d, (group + 1) * k * d)
  const scaled = new Map<number, Float32Array>()
  const centroidsTimes = (factor: number) => {
    const known = scaled.get(factor) ?? centroids.map((value) => value * factor)
    scaled.set(factor, known)
    return known
  }
  return Array.from({ length: Math.ceil((end - start) / d) }, (_, v) => {
    const column = start + v * d
    const block = scaleBlockSize === undefined ? 0 : Math.floor(column / scaleBlockSize)
    return {
      indexBits: trellis ? trellis.widths[v] : indexBitsOf(layout),
      stateBits: trellis ? trellis.stateBits : indexBitsOf(layout),
      rows,
      rowsPerStart: 0,
      vectorDim: d,
      targets: wholeBlock(columnOf(weights, cols, top, rows, column, d), d),
      ...(scales && { scales: { data: scales, offset: top * blocks + block, stride: blocks } }),
      metric: identity(d, Math.min(d, cols - column)),
      centroids: centroidsTimes(trellis?.factors[v] ?? 1),
      keys: indices,
      keyOffset: top * perRow + column / d,
      keyStride: perRow,
    }
  })
}

/** d x d, of ones as far as there are weights: the last vector of a row may be narrower. */
function identity(d: number, width: number): Float64Array {
  const metric = new Float64Array(d * d)
  for (let i = 0; i < width; i++) metric[i * (d + 1)] = 1
  return metric
}

/** A column of vectors, rows x d; beyond the last column of the layer there are zeros. */
function columnOf(
  weights: Float32Array,
  cols: number,
  top: number,
  rows: number,
  column: number,
  d: number,
): Float32Array {
  const values = new Float32Array(rows * d)
  const width = Math.min(d, cols - column)
  for (let r = 0; r < rows; r++) {
    const from = (top + r) * cols + column
    values.set(weights.subarray(from, from + width), r * d)
  }
  return values
}
