import type { Pause } from '../../common/event-loop.js'
import { fromRow, type RefineTask, wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { centroidsOf, columnGroupsOf, trellisColumns, vectorsPerRow } from '../../packing/vq-layer.js'
import { taskScales } from '../scales/block-scales.js'
import { rowsPerTurn, trellisRowsPerTurn } from '../walk/rows-per-turn.js'
import { type ColumnStrip, stripHessian } from './column-strip.js'

/** Columns refined before the residual of the whole strip follows; a multiple of every vectorDim. */
const LAZY_COLUMNS = 256

/**
 * One sweep of coordinate descent over the indices of a strip, the codebooks fixed. With the residual
 * `R = (W - Q) H`, the loss as a function of one vector `c` alone is `c^T H_PP c - 2 c . y` plus a constant, where
 * `y = H_PP q_P + R_P`; the best centroid replaces the present one where it is better, and `R` follows: within a block
 * of columns at once, in the strip when the block is done. So the loss `tr((W-Q) H (W-Q)^T)` never rises.
 *
 * @param strip its indices are changed in place, its residual, moves and losses follow
 * @returns how many indices changed
 */
export async function refineIndices(strip: ColumnStrip, pause: Pause): Promise<number> {
  const { columnsPerGroup } = strip.panel.layout
  let changed = 0
  for (let group = strip.firstColumnGroup; group < strip.lastColumnGroup; group++) {
    const groupStart = group * columnsPerGroup - strip.start
    const groupEnd = Math.min(groupStart + columnsPerGroup, strip.width)
    for (let from = groupStart; from < groupEnd; from += LAZY_COLUMNS) {
      changed += await refineBlock(strip, group, from, Math.min(from + LAZY_COLUMNS, groupEnd), pause)
    }
  }
  return changed
}

/** Refines columns `from` to `to` of the strip. */
async function refineBlock(
  strip: ColumnStrip,
  columnGroup: number,
  from: number,
  to: number,
  pause: Pause,
): Promise<number> {
  const { panel, width: stripWidth, residual, losses } = strip
  const { layout, indices, codebooks, scales, buffers } = panel
  const { vectorDim: d, rows, rowsPerGroup } = layout
  const k = centroidsOf(layout)
  const perRow = vectorsPerRow(layout)
  const width = to - from
  const steps = strip.moves
    ? { data: strip.moves, offset: from, stride: stripWidth }
    : wholeBlock(buffers.rows, width)
  const changes = new Float64Array(rows)
  const trellis = trellisColumns(layout, strip.start + from, strip.start + to)
  const height = trellis ? trellisRowsPerTurn(width, layout) : rowsPerTurn(width, k)
  let changed = 0
  for (let row = 0; row < rows; row += height) {
    await pause()
    const task: RefineTask = {
      rows: Math.min(height, rows - row),
      width,
      vectorDim: d,
      centroids: k,
      firstRow: row,
      rowsPerGroup,
      codebooks,
      codebookOffset: columnGroup * k * d,
      codebookStride: columnGroupsOf(layout) * k * d,
      indices,
      indexOffset: row * perRow + (strip.start + from) / d,
      indexStride: perRow,
      ...taskScales(layout, scales?.values, row, strip.start + from),
      residual: { data: residual, offset: row * stripWidth + from, stride: stripWidth },
      hessian: stripHessian(strip, from, from),
      steps: fromRow(steps, row),
      changes: changes.subarray(row),
    }
    changed += trellis ? kernels().refineTrellis({ ...task, ...trellis }) : kernels().refineColumns(task)
  }
  if (changed === 0) return 0
  for (let r = 0; r < rows; r++) losses[Math.floor(r / rowsPerGroup)] += changes[r]
  await pause()
  const h = stripHessian(strip, from)
  kernels().gemm('AB', rows, stripWidth, width, -1, steps, h, 1, wholeBlock(residual, stripWidth))
  return changed
}
