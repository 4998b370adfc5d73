import type { Pause } from '../../common/event-loop.js'
import { wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { blocksPerRow, lookUpRun } from '../../packing/vq-layer.js'
import type { PanelScales } from '../walk/row-panel.js'
import { type ColumnStrip, stripHessian } from './column-strip.js'

/** One block of columns of a strip on its turn; all rows x width. */
interface BlockColumn {
  readonly scales: PanelScales
  /** Within the strip. */
  readonly from: number
  readonly width: number
  /** What indices and codebooks say, before scales. */
  readonly centroids: Float32Array
  /** Centroids times `H_BB`. */
  readonly image: Float32Array
  /** Receives how far each weight moved. */
  readonly steps: Float32Array
}

/**
 * One sweep of coordinate descent over the block scales of a strip, indices and codebooks fixed. With the residual
 * `R = (W - Q) H`, the loss as a function of the scale `s` of one block alone is, up to a constant,
 * `(s - s_0)^2 c H_BB c^T - 2 (s - s_0) c . R_B`, where `c` are its centroids and `s_0` its present scale. The scale
 * nearest to the least of this parabola replaces the present one where that lowers the loss, and `R` follows. So the
 * loss `tr((W-Q) H (W-Q)^T)` never rises.
 *
 * @param strip its scales are changed in place, its residual, moves and losses follow; one without scales is left alone
 * @returns how many scales changed
 */
export async function refineScales(strip: ColumnStrip, pause: Pause): Promise<number> {
  const { panel, width: stripWidth, residual } = strip
  const { layout, scales, buffers } = panel
  const { rows, scaleBlockSize } = layout
  if (scales === undefined || scaleBlockSize === undefined) return 0
  const unscaled = buffers.rows
  lookUpStrip(strip, unscaled)
  const [centroids, image, steps] = [0, 0, 0].map(() => new Float32Array(rows * scaleBlockSize))
  let changed = 0
  for (let from = 0; from < stripWidth; from += scaleBlockSize) {
    await pause()
    const width = Math.min(scaleBlockSize, stripWidth - from)
    for (let r = 0; r < rows; r++) {
      const at = r * stripWidth + from
      centroids.set(unscaled.subarray(at, at + width), r * width)
    }
    const [c, square] = [wholeBlock(centroids, width), stripHessian(strip, from, from)]
    kernels().gemm('AB', rows, width, width, 1, c, square, 0, wholeBlock(image, width))
    const own = refineColumn(strip, { scales, from, width, centroids, image, steps })
    if (own === 0) continue
    changed += own
    const [moved, h] = [wholeBlock(steps, width), stripHessian(strip, from)]
    kernels().gemm('AB', rows, stripWidth, width, -1, moved, h, 1, wholeBlock(residual, stripWidth))
    addColumns(strip, steps, from, width)
  }
  return changed
}

/** The strip's weights before scales. */
function lookUpStrip({ panel, firstColumnGroup, lastColumnGroup, width }: ColumnStrip, target: Float32Array) {
  const { layout, indices, codebooks } = panel
  for (let r = 0; r < layout.rows; r++) {
    for (let g = firstColumnGroup; g < lastColumnGroup; g++) {
      const to = r * width + (g - firstColumnGroup) * layout.columnsPerGroup
      lookUpRun(layout, indices, codebooks, undefined, r, g, target, to)
    }
  }
}

function addColumns(
  { moves, panel, width: stripWidth }: ColumnStrip,
  steps: Float32Array,
  from: number,
  width: number,
) {
  if (moves === undefined) return
  for (let r = 0; r < panel.layout.rows; r++) {
    const to = r * stripWidth + from
    for (let j = 0; j < width; j++) moves[to + j] += steps[r * width + j]
  }
}

function refineColumn(
  { panel, start, width: stripWidth, residual, losses }: ColumnStrip,
  { scales, from, width, centroids, image, steps }: BlockColumn,
): number {
  const { rows, rowsPerGroup, scaleBlockSize = 1 } = panel.layout
  const { codes, values, levels } = scales
  const perRow = blocksPerRow(panel.layout)
  let changed = 0
  steps.fill(0)
  for (let r = 0; r < rows; r++) {
    const own = r * width
    const pull = r * stripWidth + from
    let [curvature, slope] = [0, 0]
    for (let j = 0; j < width; j++) {
      curvature += centroids[own + j] * image[own + j]
      slope += centroids[own + j] * residual[pull + j]
    }
    if (!(curvature > 0)) continue
    const block = r * perRow + (start + from) / scaleBlockSize
    const present = levels[codes[block]]
    const code = nearestLevel(levels, present + slope / curvature)
    const length = levels[code] - present
    const change = length * (length * curvature - 2 * slope)
    if (!(change < 0)) continue
    changed++
    codes[block] = code
    values[block] = levels[code]
    losses[Math.floor(r / rowsPerGroup)] += change
    for (let j = own; j < own + width; j++) {
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
