import { ShapeError } from '../common/errors.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  emptyLayer,
  isTrellis,
  rowGroupsOf,
  type VqLayer,
  type VqLayout,
  vectorsPerRow,
} from '../packing/vq-layer.js'
import type { LayerFrame } from './layer-frame.js'
import { panelGroupsOf } from './walk/row-panel.js'

/** Rows of a layer that are quantized apart from its other rows. */
export interface PanelRows {
  /** The number of the first row group. */
  readonly firstGroup: number
  readonly firstRow: number
  /** Exclusive. */
  readonly lastRow: number
}

/** The panels of a layer, from the top. They depend on its layout alone. */
export function panelsOf(layout: VqLayout): PanelRows[] {
  const { rows, rowsPerGroup } = layout
  const panelGroups = panelGroupsOf(layout)
  return Array.from({ length: Math.ceil(rowGroupsOf(layout) / panelGroups) }, (_, i) => ({
    firstGroup: i * panelGroups,
    firstRow: i * panelGroups * rowsPerGroup,
    lastRow: Math.min((i + 1) * panelGroups * rowsPerGroup, rows),
  }))
}

/**
 * Puts a layer together again.
 *
 * @param parts all panels of the layer, from the top, as `quantizePanel` gave them
 * @throws ShapeError when they are not all rows of the layer
 */
export function joinPanels(parts: readonly VqLayer[], { layout: { rows }, scaleRatio }: LayerFrame): VqLayer {
  const [{ layout: first, codebookBits, permutation }] = parts
  const found = parts.reduce((sum, { layout }) => sum + layout.rows, 0)
  if (found !== rows) throw new ShapeError(`panels of ${found} rows were joined to a layer of ${rows}`)
  const layout = { ...first, rows }
  const layer = emptyLayer(layout, codebookBits, scaleRatio)
  const codebooksPerGroup = columnGroupsOf(layout) * centroidsOf(layout) * layout.vectorDim
  let [row, group] = [0, 0]
  for (const part of parts) {
    layer.indices.set(part.indices, row * vectorsPerRow(layout))
    if (!isTrellis(layout)) layer.codebooks.set(part.codebooks, group * codebooksPerGroup)
    layer.codebookScales.set(part.codebookScales, group * columnGroupsOf(layout))
    if (part.blockScales) layer.blockScales?.codes.set(part.blockScales.codes, row * blocksPerRow(layout))
    row += part.layout.rows
    group += rowGroupsOf(part.layout)
  }
  return permutation ? { ...layer, permutation } : layer
}
