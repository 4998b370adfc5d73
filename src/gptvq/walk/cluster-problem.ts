import type { Clustering, ClusterProblem } from '../../kernels/contract.js'
import { SCALE_LEVELS, scaleLevels } from '../../packing/block-scales.js'
import { blocksPerRow, centroidsOf } from '../../packing/vq-layer.js'
import type { ColumnWalk } from './column-walk.js'

/** Groups of the columns `start` to `end` that are fitted together. */
export interface GroupBatch {
  readonly rowGroups: readonly number[]
  readonly start: number
  readonly end: number
}

/**
 * The vectors of some groups as they stand, row after row. With scales `s` they are divided by these and their metrics
 * multiplied by `s^2`, so that distances stay those of the weights themselves.
 *
 * @param shift is added to the code of every scale, as far as there are codes
 */
export function clusterProblem(walk: ColumnWalk, batch: GroupBatch, shift = 0): ClusterProblem {
  const { layout, metrics } = walk
  const { rowGroups, start, end } = batch
  const d = layout.vectorDim
  const groups = rowGroups.map((rowGroup) => vectorsOf(walk, rowGroup, start, end))
  const problem = {
    d,
    k: centroidsOf(layout),
    groups,
    metric: metrics.subarray(start * d, end * d),
    period: (end - start) / d,
  }
  if (walk.scales === undefined) return problem
  const weights = rowGroups.map((rowGroup, i) => divideByScales(walk, rowGroup, start, end, shift, groups[i]))
  return { ...problem, weights }
}

function vectorsOf({ layout, work }: ColumnWalk, rowGroup: number, start: number, end: number): Float32Array {
  const firstRow = rowGroup * layout.rowsPerGroup
  const rows = Math.min(layout.rowsPerGroup, layout.rows - firstRow)
  const width = end - start
  const vectors = new Float32Array(rows * width)
  for (let r = 0; r < rows; r++) {
    const at = (firstRow + r) * work.cols
    vectors.set(work.data.subarray(at + start, at + end), r * width)
  }
  return vectors
}

/** Returns `s^2` of each vector. */
function divideByScales(
  { layout, layer }: ColumnWalk,
  rowGroup: number,
  start: number,
  end: number,
  shift: number,
  vectors: Float32Array,
): Float32Array {
  const { vectorDim: d, scaleBlockSize = 1 } = layout
  const { codes, ratio } = layer.blockScales!
  const levels = scaleLevels(ratio)
  const width = end - start
  const rows = vectors.length / width
  const weights = new Float32Array(vectors.length / d)
  for (let r = 0; r < rows; r++) {
    const row = (rowGroup * layout.rowsPerGroup + r) * blocksPerRow(layout)
    for (let from = 0; from < width; from += scaleBlockSize) {
      const to = Math.min(from + scaleBlockSize, width)
      const scale = levels[clampCode(codes[row + (start + from) / scaleBlockSize] + shift)]
      for (let j = r * width + from; j < r * width + to; j++) vectors[j] /= scale
      weights.fill(scale * scale, (r * width + from) / d, (r * width + to) / d)
    }
  }
  return weights
}

/** The nearest code that there is. */
export function clampCode(code: number): number {
  return Math.min(Math.max(code, 0), SCALE_LEVELS - 1)
}

/** Puts the centroids of every group where its codebook (k x d) has them. */
export function placeCentroids(
  clustering: Clustering,
  { d, k }: ClusterProblem,
  codebooks: readonly Float32Array[],
): void {
  for (const [group, codebook] of codebooks.entries()) {
    for (let j = 0; j < k; j++) clustering.setCentroid(group, j, codebook.subarray(j * d, (j + 1) * d))
  }
}
