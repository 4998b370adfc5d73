import type { Matrix } from '../../common/matrix.js'
import { kernels } from '../../kernels/kernels.js'
import { SCALE_LEVELS, scaleLevels } from '../../packing/block-scales.js'
import { blocksPerRow, columnGroupsOf, rowGroupsOf, type VqLayout } from '../../packing/vq-layer.js'
import { clampCode, clusterProblem, type GroupBatch, placeCentroids } from '../walk/cluster-problem.js'
import type { ColumnWalk } from '../walk/column-walk.js'

/** Share of the blocks that may be smaller than the smallest scale: the few near 0 would spread the scales too far. */
const SMALLER_BLOCKS = 0.01
/**
 * With a trellis a block of zeros counts as one of this share of the largest: no constant centroid is 0, and so small
 * ones are next to nothing.
 */
const SHARE_OF_ZEROS = 0.005
/** The smallest scale is then 2^-30 at least and 0.63 at most. */
const LEAST_RATIO = 0.25
const MOST_RATIO = 0.97

/**
 * The ratio of neighbouring scales with which 16 of them reach down from the largest block of a group to all but one
 * percent of its blocks; undefined for a layout without scales. It is all that row groups of a layer have in common.
 *
 * @param work rows x padded columns, the weights before the first column is quantized
 */
export function scaleRatio(layout: VqLayout, work: Matrix): number | undefined {
  if (layout.scaleBlockSize === undefined) return undefined
  const shares = new Float64Array(layout.rows * blocksPerRow(layout))
  let count = 0
  for (let rowGroup = 0; rowGroup < rowGroupsOf(layout); rowGroup++) {
    for (let columnGroup = 0; columnGroup < columnGroupsOf(layout); columnGroup++) {
      const start = columnGroup * layout.columnsPerGroup
      const end = Math.min(start + layout.columnsPerGroup, work.cols)
      for (const share of blockShares(layout, work, rowGroup, start, end)) {
        if (share > 0) shares[count++] = share
        else if (layout.trellis) shares[count++] = SHARE_OF_ZEROS
      }
    }
  }
  const sorted = shares.subarray(0, count).sort()
  const smallest = count > 0 ? sorted[Math.floor(SMALLER_BLOCKS * count)] : 1
  const ratio = smallest ** (1 / (SCALE_LEVELS - 1))
  return Math.fround(Math.min(Math.max(ratio, LEAST_RATIO), MOST_RATIO))
}

/** The size of each block of a group as a share of the largest, rows x blocks. */
function blockShares(
  layout: VqLayout,
  work: Matrix,
  rowGroup: number,
  start: number,
  end: number,
): Float64Array {
  const sizes = blockSizes(layout, work, rowGroup, start, end)
  const largest = sizes.reduce((a, b) => Math.max(a, b), 0)
  return largest > 0 ? sizes.map((size) => size / largest) : sizes
}

/**
 * The size of each block of a group, rows x blocks: the fourth root of the mean fourth power. It lies between the root
 * mean square and the largest weight, and gave less error than these. In a layout without scales a row is one block.
 */
export function blockSizes(
  { rows, rowsPerGroup, scaleBlockSize: blockSize }: VqLayout,
  { data, cols }: Matrix,
  rowGroup: number,
  start: number,
  end: number,
): Float64Array {
  const scaleBlockSize = blockSize ?? end - start
  const top = rowGroup * rowsPerGroup
  const bottom = Math.min(top + rowsPerGroup, rows)
  const sizes = new Float64Array((bottom - top) * Math.ceil((end - start) / scaleBlockSize))
  let block = 0
  for (let r = top; r < bottom; r++) {
    for (let from = start; from < end; from += scaleBlockSize) {
      const to = Math.min(from + scaleBlockSize, end)
      let sum = 0
      for (let j = from; j < to; j++) {
        const square = data[r * cols + j] * data[r * cols + j]
        sum += square * square
      }
      sizes[block++] = (sum / (to - from)) ** 0.25
    }
  }
  return sizes
}

/**
 * Chooses the scales of the blocks of some groups by the size of their weights as they stand: the largest block of a
 * group has scale 1, since its codebook has a scale of its own.
 */
export function chooseScales(walk: ColumnWalk, { rowGroups, start, end }: GroupBatch): void {
  const { layout, work, layer } = walk
  const step = Math.log(layer.blockScales!.ratio)
  for (const rowGroup of rowGroups) {
    const shares = blockShares(layout, work, rowGroup, start, end)
    setCodes(walk, rowGroup, start, end, (block) => Math.round(Math.log(shares[block]) / step))
  }
}

/**
 * Gives each block of some groups the scale, its present one or a neighbour, with which its weights are nearest to the
 * centroids in the metric.
 *
 * @param codebooks of the groups, each k x d, for weights divided by their scales
 */
export function rechooseScales(
  walk: ColumnWalk,
  batch: GroupBatch,
  codebooks: readonly Float32Array[],
): void {
  const [smaller, present, larger] = [1, 0, -1].map((shift) => blockLosses(walk, batch, codebooks, shift))
  for (const [i, rowGroup] of batch.rowGroups.entries()) {
    setCodes(walk, rowGroup, batch.start, batch.end, (block, code) => {
      const [less, same, more] = [smaller[i][block], present[i][block], larger[i][block]]
      if (same <= less && same <= more) return code
      return less < more ? code + 1 : code - 1
    })
  }
}

/** What the blocks of each group lose to the nearest centroids with all codes moved by `shift`, rows x blocks. */
function blockLosses(
  walk: ColumnWalk,
  batch: GroupBatch,
  codebooks: readonly Float32Array[],
  shift: number,
): Float64Array[] {
  const { vectorDim: d, scaleBlockSize = 1 } = walk.layout
  const problem = clusterProblem(walk, batch, shift)
  const clustering = kernels().openClustering(problem)
  try {
    placeCentroids(clustering, problem, codebooks)
    clustering.assign()
    return batch.rowGroups.map((_, i) =>
      sumRuns(clustering.distances(i), (batch.end - batch.start) / d, scaleBlockSize / d),
    )
  } finally {
    clustering.close()
  }
}

/** Sums over runs of `length` values of a row of `width`, the last run of a row perhaps shorter. */
function sumRuns(values: Float64Array, width: number, length: number): Float64Array {
  const perRow = Math.ceil(width / length)
  const sums = new Float64Array((values.length / width) * perRow)
  for (let i = 0; i < values.length; i++) {
    const column = i % width
    sums[((i - column) / width) * perRow + Math.floor(column / length)] += values[i]
  }
  return sums
}

/** Sets the codes of a group's blocks, numbered row by row, to the nearest that there are to those chosen. */
function setCodes(
  { layout, layer, scales }: ColumnWalk,
  rowGroup: number,
  start: number,
  end: number,
  choose: (block: number, present: number) => number,
): void {
  const { rows, rowsPerGroup, scaleBlockSize = 1 } = layout
  const { codes, ratio } = layer.blockScales!
  const levels = scaleLevels(ratio)
  const perRow = blocksPerRow(layout)
  const top = rowGroup * rowsPerGroup
  let block = 0
  for (let r = top; r < Math.min(top + rowsPerGroup, rows); r++) {
    for (let from = start; from < end; from += scaleBlockSize) {
      const at = r * perRow + from / scaleBlockSize
      codes[at] = clampCode(choose(block++, codes[at]))
      scales![at] = levels[codes[at]]
    }
  }
}
