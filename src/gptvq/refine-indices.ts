import type { Pause } from '../event-loop.js'
import { assignNearest, centroidNorms } from '../kernels/reference/assign.js'
import { centroidsOf, columnGroupsOf, vectorsPerRow } from '../packing/vq-layer.js'
import type { PanelState, RowPanel } from './row-panel.js'

/**
 * One sweep of coordinate descent over the indices of a panel, the codebooks fixed. With the residual
 * `R = (W - Q) H`, the loss as a function of one vector `c` alone is `c^T H_PP c - 2 c . y` plus a constant, where
 * `y = H_PP q_P + R_P`; the best centroid replaces the present one where it is better, and `R` follows. So the loss
 * `tr((W-Q) H (W-Q)^T)` never rises.
 *
 * @param panel its layer's indices are changed in place
 * @param state the panel's state, kept up to date in place
 * @returns how many indices changed
 */
export async function refineIndices(panel: RowPanel, state: PanelState, pause: Pause): Promise<number> {
  let changed = 0
  for (let rowGroup = panel.firstGroup; rowGroup < panel.lastGroup; rowGroup++) {
    await pause()
    changed += refineRowGroup(panel, rowGroup, state)
  }
  return changed
}

function refineRowGroup(panel: RowPanel, rowGroup: number, { residual, losses }: PanelState): number {
  const { hessian, layout, layer, codebooks, firstRow } = panel
  const { cols, vectorDim: d, rowsPerGroup, columnsPerGroup } = layout
  const k = centroidsOf(layout)
  const perRow = vectorsPerRow(layout)
  const columnGroups = columnGroupsOf(layout)
  const top = rowGroup * rowsPerGroup
  const rows = Math.min(rowsPerGroup, layout.rows - top)
  const metric = new Float64Array(d * d)
  const norms = new Float64Array(k)
  const projected = new Float64Array(rows * d)
  const nearest = new Uint16Array(rows)
  const scores = new Float64Array(rows)
  let changed = 0
  for (let column = 0; column < cols; column += d) {
    const width = Math.min(d, cols - column)
    const group = rowGroup * columnGroups + Math.floor(column / columnsPerGroup)
    const codebook = codebooks.subarray(group * k * d, (group + 1) * k * d)
    for (let a = 0; a < width; a++) {
      for (let b = 0; b < width; b++) metric[a * d + b] = hessian.data[(column + a) * cols + column + b]
    }
    // beyond a ragged row's end nothing counts
    if (width < d) for (let a = 0; a < d * d; a++) if (a % d >= width || a >= width * d) metric[a] = 0
    centroidNorms(codebook, k, d, metric, 1, norms)
    for (let r = 0; r < rows; r++) {
      const present = layer.indices[(top + r) * perRow + column / d] * d
      const at = (top - firstRow + r) * cols + column
      for (let a = 0; a < d; a++) {
        let sum = a < width ? residual[at + a] : 0
        for (let b = 0; b < d; b++) sum += metric[a * d + b] * codebook[present + b]
        projected[r * d + a] = sum
      }
    }
    assignNearest(projected, rows, d, codebook, k, norms, 1, nearest, scores)
    for (let r = 0; r < rows; r++) {
      const index = (top + r) * perRow + column / d
      const present = layer.indices[index]
      let presentScore = norms[present]
      for (let a = 0; a < d; a++) presentScore -= 2 * projected[r * d + a] * codebook[present * d + a]
      if (!(scores[r] < presentScore)) continue
      layer.indices[index] = nearest[r]
      losses[rowGroup - panel.firstGroup] += scores[r] - presentScore
      changed++
      const row = (top - firstRow + r) * cols
      for (let a = 0; a < width; a++) {
        const step = codebook[nearest[r] * d + a] - codebook[present * d + a]
        const h = (column + a) * cols
        for (let j = 0; j < cols; j++) residual[row + j] -= step * hessian.data[h + j]
      }
    }
  }
  return changed
}
