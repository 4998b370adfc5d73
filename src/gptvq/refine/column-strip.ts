import { type Block, wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { columnGroupsOf, type VqLayout } from '../../packing/vq-layer.js'
import type { PanelState, RowPanel } from '../walk/row-panel.js'

/** One column group, or some side by side. */
export interface ColumnRange {
  readonly firstColumnGroup: number
  /** Exclusive. */
  readonly lastColumnGroup: number
  /** The first column. */
  readonly start: number
  /** Columns. */
  readonly width: number
}

/**
 * A column group of a panel, or all of them, on its turn to be moved. A strip has its own part of the residual, which
 * follows every step at once; the rest of the columns follow when the strip is closed.
 */
export interface ColumnStrip extends ColumnRange {
  readonly panel: RowPanel
  /** These columns of `(W - Q) H`, rows x width. */
  readonly residual: Float32Array
  /** How far each weight has moved since the strip was opened, rows x width; undefined where no other columns wait for it. */
  readonly moves: Float32Array | undefined
  /** `tr((W - Q) H (W - Q)^T)` of each row group, kept up to date. */
  readonly losses: Float64Array
}

/** All columns of a layer. */
export function allColumns(layout: VqLayout): ColumnRange {
  return { firstColumnGroup: 0, lastColumnGroup: columnGroupsOf(layout), start: 0, width: layout.cols }
}

/** All columns of a panel at once. */
export function wholeStrip(panel: RowPanel, { residual, losses }: PanelState): ColumnStrip {
  return { ...allColumns(panel.layout), panel, residual, moves: undefined, losses }
}

/** Opens one column group. To be closed before another is opened. */
export function openStrip(panel: RowPanel, state: PanelState, columnGroup: number): ColumnStrip {
  const { layout, buffers } = panel
  const { rows, cols, columnsPerGroup } = layout
  if (columnsPerGroup >= cols) return wholeStrip(panel, state)
  const start = columnGroup * columnsPerGroup
  const width = Math.min(columnsPerGroup, cols - start)
  const residual = buffers.stripResidual.subarray(0, rows * width)
  for (let r = 0; r < rows; r++) {
    const from = r * cols + start
    residual.set(state.residual.subarray(from, from + width), r * width)
  }
  return {
    panel,
    firstColumnGroup: columnGroup,
    lastColumnGroup: columnGroup + 1,
    start,
    width,
    residual,
    moves: buffers.stripMoves.subarray(0, rows * width).fill(0),
    losses: state.losses,
  }
}

/** Lets the residual of all columns follow what the strip's weights have moved. */
export function closeStrip({ panel, start, width, residual, moves }: ColumnStrip, state: PanelState): void {
  if (moves === undefined) return
  const { hessian, layout } = panel
  const { rows, cols } = layout
  for (const [from, to] of [
    [0, start],
    [start + width, cols],
  ]) {
    if (from === to) continue
    const h = { data: hessian.data, offset: start * cols + from, stride: cols }
    const others = { data: state.residual, offset: from, stride: cols }
    kernels().gemm('AB', rows, to - from, width, -1, wholeBlock(moves, width), h, 1, others)
  }
  for (let r = 0; r < rows; r++) {
    state.residual.set(residual.subarray(r * width, (r + 1) * width), r * cols + start)
  }
}

/** Rows and columns of the Hessian from a column of the strip on, by default its first. */
export function stripHessian({ panel, start }: ColumnStrip, row = 0, column = 0): Block {
  const { cols } = panel.layout
  return { data: panel.hessian.data, offset: (start + row) * cols + start + column, stride: cols }
}
