import type { Pause } from '../../common/event-loop.js'
import type { Matrix } from '../../common/matrix.js'
import { fromRow, wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { scaleLevels } from '../../packing/block-scales.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  decodeBlockScales,
  lookUp,
  rowGroupsOf,
  type VqLayer,
  type VqLayout,
  vectorsPerRow,
} from '../../packing/vq-layer.js'

/**
 * Floats of a panel, up to half as many again; bounds the memory of the steps that need `(W - Q) H` (three panels of
 * floats and a column group's part of two more), and the time between two pauses.
 */
const PANEL_VALUES = 2 ** 21
/** Rows of a panel at least, however wide the layer: every panel reads the whole Hessian. */
const LEAST_ROWS = 256

/** Products of a panel with the Hessian between two pauses: some tens of milliseconds. */
const TURN_PRODUCTS = 2 ** 30
/** Products are cut at multiples of so many rows, where the kernels cut them anyway. */
const ROWS_OF_A_TILE = 128

/** Some row groups of a layer, whose rows are multiplied with the Hessian together; rows and groups count from 0. */
export interface RowPanel {
  /** Of these rows alone. */
  readonly layout: VqLayout
  /** Undamped. */
  readonly hessian: Matrix
  /** rows x vectorsPerRow. */
  readonly indices: Uint16Array
  /** As floats, not rounded to their stored form on the way; groups x k x d. */
  readonly codebooks: Float32Array
  /** Undefined for a layer without. */
  readonly scales?: PanelScales
  readonly buffers: PanelBuffers
}

/** The block scales of a panel, rows x blocksPerRow, as codes and as what these stand for. */
export interface PanelScales {
  readonly codes: Uint8Array
  readonly values: Float32Array
  /** The scale of each code. */
  readonly levels: Float32Array
}

/** Room to work in; all panels of a layer use it in turn. */
export interface PanelBuffers {
  /** rows x cols. */
  readonly rows: Float32Array
  /** rows x cols. */
  readonly product: Float32Array
  /** rows x columnsPerGroup, empty where that is all columns. */
  readonly stripResidual: Float32Array
  /** As `stripResidual`. */
  readonly stripMoves: Float32Array
}

/** How far a panel is from its weights; it goes from step to step, so that none has to work it out again. */
export interface PanelState {
  /** `(W - Q) H`, rows x cols. */
  readonly residual: Float32Array
  /** `tr((W - Q) H (W - Q)^T)` of each row group. */
  readonly losses: Float64Array
}

/** A panel as it was cut from its layer. */
export interface LayerPanel extends RowPanel {
  /** rows x cols. */
  readonly weight: Float32Array
  /** The number in the layer of the panel's first row group. */
  readonly firstGroup: number
}

/** How many row groups a panel of a layer has; the last one may have fewer. It depends on the layer's shape alone. */
export function panelGroupsOf(layout: VqLayout): number {
  const rowGroups = rowGroupsOf(layout)
  const panelRows = Math.max(LEAST_ROWS, PANEL_VALUES / layout.cols)
  // of about the same height: a last panel of few rows would cost as much copying as any other
  return Math.ceil(rowGroups / Math.max(1, Math.min(rowGroups, Math.round(layout.rows / panelRows))))
}

/**
 * Cuts a layer into panels of `height` row groups. What a panel changes in its indices, codes and codebooks changes in
 * the layer and in `codebooks`, the layer's as floats.
 */
export function rowPanels(
  weight: Matrix,
  hessian: Matrix,
  layer: VqLayer,
  codebooks: Float32Array,
  height = panelGroupsOf(layer.layout),
): LayerPanel[] {
  const { layout } = layer
  const { cols, rows, rowsPerGroup, columnsPerGroup } = layout
  const rowGroups = rowGroupsOf(layout)
  const most = Math.min(rows, height * rowsPerGroup)
  const stripValues = columnsPerGroup < cols ? most * columnsPerGroup : 0
  const buffers: PanelBuffers = {
    rows: new Float32Array(most * cols),
    product: new Float32Array(most * cols),
    stripResidual: new Float32Array(stripValues),
    stripMoves: new Float32Array(stripValues),
  }
  const values = decodeBlockScales(layer)
  const codebooksPerGroup = columnGroupsOf(layout) * centroidsOf(layout) * layout.vectorDim
  const panels: LayerPanel[] = []
  for (let firstGroup = 0; firstGroup < rowGroups; firstGroup += height) {
    const lastGroup = Math.min(firstGroup + height, rowGroups)
    const top = firstGroup * rowsPerGroup
    const bottom = Math.min(lastGroup * rowsPerGroup, rows)
    const rowsOf = (perRow: number) => [top * perRow, bottom * perRow] as const
    const blocks = rowsOf(blocksPerRow(layout))
    panels.push({
      layout: { ...layout, rows: bottom - top },
      hessian,
      indices: layer.indices.subarray(...rowsOf(vectorsPerRow(layout))),
      codebooks: codebooks.subarray(firstGroup * codebooksPerGroup, lastGroup * codebooksPerGroup),
      scales: layer.blockScales &&
        values && {
          codes: layer.blockScales.codes.subarray(...blocks),
          values: values.subarray(...blocks),
          levels: scaleLevels(layer.blockScales.ratio),
        },
      buffers,
      weight: weight.data.subarray(...rowsOf(cols)),
      firstGroup,
    })
  }
  return panels
}

/** The rows of a row group within its panel, the second exclusive. */
export function rowsOfGroup({ rows, rowsPerGroup }: VqLayout, group: number): readonly [number, number] {
  return [group * rowsPerGroup, Math.min((group + 1) * rowsPerGroup, rows)]
}

/**
 * Works out the state of a panel from its indices, codebooks and scales.
 *
 * @param residual receives the residual, rows x cols; by default a new array
 */
export async function stateOf(
  panel: LayerPanel,
  pause: Pause,
  residual: Float32Array = new Float32Array(panel.layout.rows * panel.layout.cols),
): Promise<PanelState> {
  const { weight, layout, hessian, indices, codebooks, scales, buffers } = panel
  const { rows, cols } = layout
  const difference = buffers.rows
  lookUp(layout, indices, codebooks, scales?.values, 0, rows, difference)
  for (let i = 0; i < rows * cols; i++) difference[i] = weight[i] - difference[i]
  const [a, c] = [wholeBlock(difference, cols), wholeBlock(residual, cols)]
  const height = Math.max(1, Math.floor(TURN_PRODUCTS / cols ** 2 / ROWS_OF_A_TILE)) * ROWS_OF_A_TILE
  for (let row = 0; row < rows; row += height) {
    await pause()
    const count = Math.min(height, rows - row)
    kernels().gemm(
      'AB',
      count,
      cols,
      cols,
      1,
      fromRow(a, row),
      wholeBlock(hessian.data, cols),
      0,
      fromRow(c, row),
    )
  }
  const losses = new Float64Array(rowGroupsOf(layout))
  for (let g = 0; g < losses.length; g++) {
    const [top, bottom] = rowsOfGroup(layout, g)
    let loss = 0
    for (let i = top * cols; i < bottom * cols; i++) loss += difference[i] * residual[i]
    losses[g] = loss
  }
  return { residual, losses }
}
