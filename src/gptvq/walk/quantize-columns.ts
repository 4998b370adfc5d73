import type { Pause } from '../../common/event-loop.js'
import { flushErrors } from '../../hessian/propagation.js'
import { type ColumnWalkTask, wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { centroidsOf, columnGroupsOf, trellisColumns, vectorsPerRow } from '../../packing/vq-layer.js'
import { taskScales } from '../scales/block-scales.js'
import type { ColumnWalk } from './column-walk.js'
import { rowsPerTurn, trellisRowsPerTurn } from './rows-per-turn.js'

/** Columns quantized before their errors reach all later columns; a multiple of every vectorDim. */
const LAZY_COLUMNS = 128

/** Quantizes the columns of one column group with its codebooks. */
export async function quantizeColumnGroup(
  walk: ColumnWalk,
  columnGroup: number,
  pause: Pause,
): Promise<void> {
  const { layout, work } = walk
  const start = columnGroup * layout.columnsPerGroup
  const end = Math.min(start + layout.columnsPerGroup, work.cols)
  const errors = new Float32Array(layout.rows * Math.min(LAZY_COLUMNS, end - start))
  for (let block = start; block < end; block += LAZY_COLUMNS) {
    const blockEnd = Math.min(block + LAZY_COLUMNS, end)
    await quantizeBlock(walk, columnGroup, block, blockEnd, errors, pause)
    flushErrors(work, errors, walk.factor, block, blockEnd)
  }
}

/** Quantizes columns `start` to `end`; what each vector leaves to later columns goes to `errors`, rows x (end - start). */
async function quantizeBlock(
  walk: ColumnWalk,
  columnGroup: number,
  start: number,
  end: number,
  errors: Float32Array,
  pause: Pause,
): Promise<void> {
  const { layout, work, factor, metrics, layer, codebooks, scales } = walk
  const { vectorDim: d, rows, rowsPerGroup } = layout
  const k = centroidsOf(layout)
  const perRow = vectorsPerRow(layout)
  const width = end - start
  const trellis = trellisColumns(layout, start, end)
  const height = trellis ? trellisRowsPerTurn(width, layout) : rowsPerTurn(width, k)
  for (let row = 0; row < rows; row += height) {
    await pause()
    const task: ColumnWalkTask = {
      rows: Math.min(height, rows - row),
      width,
      vectorDim: d,
      centroids: k,
      firstRow: row,
      rowsPerGroup,
      codebooks,
      codebookOffset: columnGroup * k * d,
      codebookStride: columnGroupsOf(layout) * k * d,
      indices: layer.indices,
      indexOffset: row * perRow + start / d,
      indexStride: perRow,
      ...taskScales(layout, scales, row, start),
      work: { data: work.data, offset: row * work.cols + start, stride: work.cols },
      factor: { data: factor.data, offset: start * factor.cols + start, stride: factor.cols },
      metrics: metrics.subarray(start * d, end * d),
      errors: { ...wholeBlock(errors, width), offset: row * width },
    }
    if (trellis) kernels().quantizeTrellis({ ...task, ...trellis })
    else kernels().quantizeColumns(task)
  }
}
