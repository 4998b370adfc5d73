import type { Pause } from '../event-loop.js'
import { wholeBlock } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import { scaleLevels } from '../packing/block-scales.js'
import { blocksPerRow, lookUp } from '../packing/vq-layer.js'
import type { PanelState, RowPanel } from './row-panel.js'

/** One block of columns of a panel's rows on its turn; all rows x width. */
interface BlockColumn {
  readonly start: number
  readonly width: number
  /** What indices and codebooks say, before scales. */
  readonly centroids: Float32Array
  /** Centroids times `H_BB`. */
  readonly image: Float32Array
  /** Receives how far each weight moved. */
  readonly steps: Float32Array
}

/**
 * One sweep of coordinate descent over the block scales of a panel, indices and codebooks fixed. With the residual
 * `R = (W - Q) H`, the loss as a function of the scale `s` of one block alone is, up to a constant,
 * `(s - s_0)^2 c H_BB c^T - 2 (s - s_0) c . R_B`, where `c` are its centroids and `s_0` its present scale. The scale
 * nearest to the least of this parabola replaces the present one where that lowers the loss, and `R` follows. So the
 * loss `tr((W-Q) H (W-Q)^T)` never rises.
 *
 * @param panel its layer's scales are changed in place; one without scales is left alone
 * @param state the panel's state, kept up to date in place
 * @returns how many scales changed
 */
export async function refineScales(panel: RowPanel, state: PanelState, pause: Pause): Promise<number> {
  const { layout, layer, hessian, codebooks, scales, firstRow, lastRow, buffers } = panel
  const { cols, scaleBlockSize } = layout
  if (scales === undefined || scaleBlockSize === undefined) return 0
  const rows = lastRow - firstRow
  lookUp(layout, layer.indices, codebooks, undefined, firstRow, lastRow, buffers.rows)
  const [centroids, image, steps] = [0, 0, 0].map(() => new Float32Array(rows * scaleBlockSize))
  let changed = 0
  for (let start = 0; start < cols; start += scaleBlockSize) {
    await pause()
    const width = Math.min(scaleBlockSize, cols - start)
    const [moved, h] = [wholeBlock(steps, width), { data: hessian.data, offset: start * cols, stride: cols }]
    for (let r = 0; r < rows; r++) {
      const at = r * cols + start
      centroids.set(buffers.rows.subarray(at, at + width), r * width)
    }
    const square = { ...h, offset: h.offset + start }
    kernels().gemm(
      'AB',
      rows,
      width,
      width,
      1,
      wholeBlock(centroids, width),
      square,
      0,
      wholeBlock(image, width),
    )
    const own = refineColumn(panel, state, { start, width, centroids, image, steps })
    if (own === 0) continue
    changed += own
    kernels().gemm('AB', rows, cols, width, -1, moved, h, 1, wholeBlock(state.residual, cols))
  }
  return changed
}

function refineColumn(
  { layout, layer, scales, firstRow, lastRow, firstGroup }: RowPanel,
  { residual, losses }: PanelState,
  { start, width, centroids, image, steps }: BlockColumn,
): number {
  const { cols, rowsPerGroup, scaleBlockSize = 1 } = layout
  const { codes, ratio } = layer.blockScales!
  const levels = scaleLevels(ratio)
  const perRow = blocksPerRow(layout)
  let changed = 0
  steps.fill(0)
  for (let r = firstRow; r < lastRow; r++) {
    const from = (r - firstRow) * width
    const pull = (r - firstRow) * cols + start
    let [curvature, slope] = [0, 0]
    for (let j = 0; j < width; j++) {
      curvature += centroids[from + j] * image[from + j]
      slope += centroids[from + j] * residual[pull + j]
    }
    if (!(curvature > 0)) continue
    const block = r * perRow + start / scaleBlockSize
    const present = levels[codes[block]]
    const code = nearestLevel(levels, present + slope / curvature)
    const length = levels[code] - present
    const change = length * (length * curvature - 2 * slope)
    if (!(change < 0)) continue
    changed++
    codes[block] = code
    scales![block] = levels[code]
    losses[Math.floor(r / rowsPerGroup) - firstGroup] += change
    for (let j = from; j < from + width; j++) {
      steps[j] = Math.fround(centroids[j] * levels[code]) - Math.fround(centroids[j] * present)
    }
  }
  return changed
}

function nearestLevel(levels: Float32Array, target: number): number {
  let best = 0
  for (let code = 1; code < levels.length; code++) {
    if (Math.abs(levels[code] - target) < Math.abs(levels[best] - target)) best = code
  }
  return best
}
