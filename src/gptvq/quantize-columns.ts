import type { Pause } from '../event-loop.js'
import { assignNearest, centroidNorms, projectVectors } from '../kernels/reference/assign.js'
import { centroidsOf, columnGroupsOf, rowGroupsOf, vectorsPerRow } from '../packing/vq-layer.js'
import { flushErrors, solveError, spreadError } from '../propagation.js'
import type { ColumnWalk } from './column-walk.js'
import { fitColumnGroup } from './fit-codebooks.js'

/** Columns quantized before their errors reach all later columns; a multiple of every vectorDim. */
const LAZY_COLUMNS = 128

/**
 * Fits the codebooks of one column group, then quantizes its columns (DESIGN: mathematics, 3-5). A codebook is fitted
 * to the weights as they stand when its group is reached, rounded to its stored form, and only then used, so that the
 * error feedback makes up for that rounding too.
 */
export async function quantizeColumnGroup(
  walk: ColumnWalk,
  columnGroup: number,
  pause: Pause,
): Promise<void> {
  const { layout, work } = walk
  const start = columnGroup * layout.columnsPerGroup
  const end = Math.min(start + layout.columnsPerGroup, work.cols)
  const rowGroups = rowGroupsOf(layout)
  await fitColumnGroup(walk, columnGroup, start, end, pause)
  for (let block = start; block < end; block += LAZY_COLUMNS) {
    const blockEnd = Math.min(block + LAZY_COLUMNS, end)
    const errors = new Float32Array(layout.rows * (blockEnd - block))
    for (let rowGroup = 0; rowGroup < rowGroups; rowGroup++) {
      await pause()
      quantizeBlock(walk, rowGroup, columnGroup, block, blockEnd, errors)
    }
    flushErrors(work, errors, walk.factor, block, blockEnd)
  }
}

/** Quantizes columns `start` to `end` of one row group; what each vector leaves to later columns goes to `errors`. */
function quantizeBlock(
  walk: ColumnWalk,
  rowGroup: number,
  columnGroup: number,
  start: number,
  end: number,
  errors: Float32Array,
): void {
  const { layout, work, factor, metrics, layer } = walk
  const { vectorDim: d, rowsPerGroup } = layout
  const k = centroidsOf(layout)
  const perRow = vectorsPerRow(layout)
  const firstRow = rowGroup * rowsPerGroup
  const rows = Math.min(rowsPerGroup, layout.rows - firstRow)
  const group = rowGroup * columnGroupsOf(layout) + columnGroup
  const codebook = walk.codebooks.subarray(group * k * d, (group + 1) * k * d)
  const vectors = new Float32Array(rows * d)
  const projected = new Float64Array(rows * d)
  const scores = new Float64Array(rows)
  const nearest = new Uint16Array(rows)
  const norms = new Float64Array(k)
  const error = new Float64Array(d)
  for (let column = start; column < end; column += d) {
    const metric = metrics.subarray(column * d, (column + d) * d)
    for (let r = 0; r < rows; r++) {
      const at = (firstRow + r) * work.cols + column
      for (let a = 0; a < d; a++) vectors[r * d + a] = work.data[at + a]
    }
    projectVectors(vectors, rows, d, metric, 1, projected, scores)
    centroidNorms(codebook, k, d, metric, 1, norms)
    assignNearest(projected, rows, d, codebook, k, norms, 1, nearest, scores)
    for (let r = 0; r < rows; r++) {
      const row = firstRow + r
      layer.indices[row * perRow + column / d] = nearest[r]
      for (let a = 0; a < d; a++) error[a] = vectors[r * d + a] - codebook[nearest[r] * d + a]
      solveError(error, d, factor, column)
      errors.set(error, row * (errors.length / layout.rows) + column - start)
      spreadError(work.data, row * work.cols, error, d, factor, column, end)
    }
  }
}
