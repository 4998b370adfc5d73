import { constantUnit } from '../../codebook/constant-codebook.js'
import { bfloatToFloat, floatToBfloat } from '../../kernels/half.js'
import { centroidsOf, columnGroupsOf, decodeCodebook, rowGroupsOf } from '../../packing/vq-layer.js'
import { blockSizes, chooseScales } from '../scales/choose-scales.js'
import type { ColumnWalk } from './column-walk.js'

/** The spread of weights as a share of the size of their block, a fourth root of a mean fourth power, were they normal. */
const NORMAL_SHARE = 3 ** -0.25

/**
 * Gives the groups of a column group their scales by the size of the weights as they stand: the constant codebook, made
 * for a normal distribution, is stretched to that of the largest block, or of the average row in a layer without scales.
 */
export function scaleColumnGroup(walk: ColumnWalk, columnGroup: number): void {
  const { layout, work, layer, codebooks, scales } = walk
  const size = centroidsOf(layout) * layout.vectorDim
  const start = columnGroup * layout.columnsPerGroup
  const end = Math.min(start + layout.columnsPerGroup, work.cols)
  const unit = NORMAL_SHARE * constantUnit(layout.vectorDim)
  for (let rowGroup = 0; rowGroup < rowGroupsOf(layout); rowGroup++) {
    const sizes = blockSizes(layout, work, rowGroup, start, end)
    const spread = scales
      ? sizes.reduce((a, b) => Math.max(a, b), 0)
      : sizes.reduce((a, b) => a + b, 0) / sizes.length
    if (scales) chooseScales(walk, { rowGroups: [rowGroup], start, end })
    const group = rowGroup * columnGroupsOf(layout) + columnGroup
    layer.codebookScales[group] = bfloatToFloat(floatToBfloat(unit * spread))
    decodeCodebook(layer, group, codebooks.subarray(group * size, (group + 1) * size))
  }
}
