import type { Pause } from '../event-loop.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import { centroidsOf, columnGroupsOf, vectorsPerRow } from '../packing/vq-layer.js'
import { taskScales } from './block-scales.js'
import type { PanelState, RowPanel } from './row-panel.js'
import { rowsPerTurn } from './rows-per-turn.js'

/** Columns refined before the residual of all columns follows; a multiple of every vectorDim. */
const LAZY_COLUMNS = 256

/**
 * One sweep of coordinate descent over the indices of a panel, the codebooks fixed. With the residual
 * `R = (W - Q) H`, the loss as a function of one vector `c` alone is `c^T H_PP c - 2 c . y` plus a constant, where
 * `y = H_PP q_P + R_P`; the best centroid replaces the present one where it is better, and `R` follows: within a block
 * of columns at once, everywhere when the block is done. So the loss `tr((W-Q) H (W-Q)^T)` never rises.
 *
 * @param panel its layer's indices are changed in place
 * @param state the panel's state, kept up to date in place
 * @returns how many indices changed
 */
export async function refineIndices(panel: RowPanel, state: PanelState, pause: Pause): Promise<number> {
  const { cols, columnsPerGroup } = panel.layout
  let changed = 0
  for (let group = 0; group < columnGroupsOf(panel.layout); group++) {
    const groupEnd = Math.min((group + 1) * columnsPerGroup, cols)
    for (let start = group * columnsPerGroup; start < groupEnd; start += LAZY_COLUMNS) {
      const end = Math.min(start + LAZY_COLUMNS, groupEnd)
      changed += await refineBlock(panel, state, group, start, end, pause)
    }
  }
  return changed
}

async function refineBlock(
  panel: RowPanel,
  { residual, losses }: PanelState,
  columnGroup: number,
  start: number,
  end: number,
  pause: Pause,
): Promise<number> {
  const { layout, layer, codebooks, scales, hessian, firstRow, lastRow, firstGroup } = panel
  const { vectorDim: d, cols, rowsPerGroup } = layout
  const k = centroidsOf(layout)
  const perRow = vectorsPerRow(layout)
  const width = end - start
  const rows = lastRow - firstRow
  const steps = panel.buffers.rows
  const changes = new Float64Array(rows)
  const height = rowsPerTurn(width, k)
  let changed = 0
  for (let row = 0; row < rows; row += height) {
    await pause()
    changed += kernels().refineColumns({
      rows: Math.min(height, rows - row),
      width,
      vectorDim: d,
      centroids: k,
      firstRow: firstRow + row,
      rowsPerGroup,
      codebooks,
      codebookOffset: columnGroup * k * d,
      codebookStride: columnGroupsOf(layout) * k * d,
      indices: layer.indices,
      indexOffset: (firstRow + row) * perRow + start / d,
      indexStride: perRow,
      ...taskScales(layout, scales, firstRow + row, start),
      residual: { data: residual, offset: row * cols + start, stride: cols },
      hessian: { data: hessian.data, offset: start * cols + start, stride: cols },
      steps: { ...wholeBlock(steps, width), offset: row * width },
      changes: changes.subarray(row),
    })
  }
  if (changed === 0) return 0
  for (let r = 0; r < rows; r++) losses[Math.floor((firstRow + r) / rowsPerGroup) - firstGroup] += changes[r]
  await pause()
  const hessianRows = { data: hessian.data, offset: start * cols, stride: cols }
  const moved = wholeBlock(steps, width)
  kernels().gemm('AB', rows, cols, width, -1, moved, hessianRows, 1, wholeBlock(residual, cols))
  return changed
}
