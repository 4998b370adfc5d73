import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import type { Matrix } from '../matrix.js'
import {
  centroidsOf,
  columnGroupsOf,
  decodeBlockScales,
  lookUp,
  rowGroupsOf,
  type VqLayer,
  type VqLayout,
} from '../packing/vq-layer.js'

/**
 * Floats of a panel, up to half as many again; bounds the memory of the steps that need `(W - Q) H` (three panels of
 * floats), and the time between two pauses.
 */
const PANEL_VALUES = 2 ** 21
/** Rows of a panel at least, however wide the layer: every panel reads the whole Hessian. */
const LEAST_ROWS = 256

/** Consecutive row groups of a layer, whose rows are multiplied with the Hessian together. */
export interface RowPanel {
  readonly weight: Matrix
  /** Undamped. */
  readonly hessian: Matrix
  readonly layer: VqLayer
  readonly layout: VqLayout
  /** All codebooks of the layer as floats, groups x k x d. */
  readonly codebooks: Float32Array
  /** Scales of all blocks of the layer, rows x blocksPerRow; undefined for a layer without. */
  readonly scales: Float32Array | undefined
  readonly firstGroup: number
  /** Exclusive. */
  readonly lastGroup: number
  readonly firstRow: number
  /** Exclusive. */
  readonly lastRow: number
  /** Codebook values of one row group: column groups x k x d. */
  readonly unknowns: number
  readonly buffers: PanelBuffers
}

/** Room for a panel's rows and their product with the Hessian; all panels of a layer use it in turn. */
export interface PanelBuffers {
  readonly rows: Float32Array
  readonly product: Float32Array
}

/** Cuts a layer into panels of whole row groups. `codebooks` are the layer's stored codebooks as floats. */
export function rowPanels(
  weight: Matrix,
  hessian: Matrix,
  layer: VqLayer,
  codebooks: Float32Array,
): RowPanel[] {
  const { layout } = layer
  const { cols, rows, rowsPerGroup } = layout
  const rowGroups = rowGroupsOf(layout)
  const panelRows = Math.max(LEAST_ROWS, PANEL_VALUES / cols)
  // of about the same height: a last panel of few rows would cost as much copying as any other
  const height = Math.ceil(rowGroups / Math.max(1, Math.min(rowGroups, Math.round(rows / panelRows))))
  const values = Math.min(rows, height * rowsPerGroup) * cols
  const buffers = { rows: new Float32Array(values), product: new Float32Array(values) }
  const unknowns = columnGroupsOf(layout) * centroidsOf(layout) * layout.vectorDim
  const scales = decodeBlockScales(layer)
  const panels: RowPanel[] = []
  for (let firstGroup = 0; firstGroup < rowGroups; firstGroup += height) {
    const lastGroup = Math.min(firstGroup + height, rowGroups)
    const firstRow = firstGroup * rowsPerGroup
    const lastRow = Math.min(lastGroup * rowsPerGroup, rows)
    panels.push({
      weight,
      hessian,
      layer,
      layout,
      codebooks,
      scales,
      firstGroup,
      lastGroup,
      firstRow,
      lastRow,
      unknowns,
      buffers,
    })
  }
  return panels
}

/** How far a panel is from its weights; it goes from step to step, so that none has to work it out again. */
export interface PanelState {
  /** `(W - Q) H`, panel rows x cols. */
  readonly residual: Float32Array
  /** `tr((W - Q) H (W - Q)^T)` of each row group. */
  readonly losses: Float64Array
}

/**
 * Works out the state of a panel from its indices and codebooks.
 *
 * @param residual receives the residual, panel rows x cols; by default a new array
 */
export function stateOf(panel: RowPanel, residual?: Float32Array): PanelState {
  const { weight, layout, layer, codebooks, scales, firstRow, lastRow, firstGroup, lastGroup, buffers } =
    panel
  const { cols, rowsPerGroup } = layout
  const values = (lastRow - firstRow) * cols
  const difference = buffers.rows
  lookUp(layout, layer.indices, codebooks, scales, firstRow, lastRow, difference)
  const at = firstRow * cols
  for (let i = 0; i < values; i++) difference[i] = weight.data[at + i] - difference[i]
  const product = residual ?? new Float32Array(values)
  timesHessian(panel, difference, lastRow - firstRow, product)
  const losses = new Float64Array(lastGroup - firstGroup)
  const groupValues = cols * rowsPerGroup
  for (let g = 0; g < losses.length; g++) {
    const end = Math.min((g + 1) * groupValues, values)
    let loss = 0
    for (let i = g * groupValues; i < end; i++) loss += difference[i] * product[i]
    losses[g] = loss
  }
  return { residual: product, losses }
}

/** `product = rows H` for the first `count` rows of the layer's width. */
export function timesHessian(
  panel: RowPanel,
  rows: Float32Array,
  count: number,
  product: Float32Array,
): void {
  const n = panel.layout.cols
  const hessian = wholeBlock(panel.hessian.data, n)
  kernels().gemm('AB', count, n, n, 1, wholeBlock(rows, n), hessian, 0, wholeBlock(product, n))
}
