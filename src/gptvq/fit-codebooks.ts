import { runEm } from '../codebook/em.js'
import { seedCodebooks } from '../codebook/seeds.js'
import { loadCodebook, storeCodebook } from '../codebook/store-codebook.js'
import type { Pause } from '../event-loop.js'
import type { ClusterProblem } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import { centroidsOf, columnGroupsOf, rowGroupsOf } from '../packing/vq-layer.js'
import { deriveSeed } from '../random.js'
import type { ColumnWalk } from './column-walk.js'

/** Bytes of vectors in the kernels' memory at once, and distances measured between two pauses, unless a group has more. */
const BATCH_BYTES = 2 ** 25
const BATCH_DISTANCES = 2 ** 30

/**
 * Fits the codebooks of one column group (DESIGN: mathematics, 5), each to the weights of its rows as they stand when
 * the walk reaches it. They are rounded to their stored form before they are used, so that the error feedback makes up
 * for that rounding too.
 */
export async function fitColumnGroup(walk: ColumnWalk, columnGroup: number, pause: Pause): Promise<void> {
  const { layout, settings, work } = walk
  const start = columnGroup * layout.columnsPerGroup
  const end = Math.min(start + layout.columnsPerGroup, work.cols)
  const { vectorDim: d, rowsPerGroup } = layout
  const rowGroups = rowGroupsOf(layout)
  const vectors = (rowsPerGroup * (end - start)) / d
  const distances = vectors * centroidsOf(layout) * (settings.kmeansIterations + 1)
  const most = Math.min(BATCH_BYTES / (vectors * (8 * d + 6)), BATCH_DISTANCES / distances)
  const batch = Math.max(1, Math.floor(most))
  for (let first = 0; first < rowGroups; first += batch) {
    await pause()
    fitRowGroups(walk, first, Math.min(first + batch, rowGroups), columnGroup, start, end)
  }
}

/** Fits the codebooks of row groups `first` to `last`. */
function fitRowGroups(
  walk: ColumnWalk,
  first: number,
  last: number,
  columnGroup: number,
  start: number,
  end: number,
): void {
  const { layout, settings, metrics, layer } = walk
  const d = layout.vectorDim
  const k = centroidsOf(layout)
  const rowGroups = Array.from({ length: last - first }, (_, i) => first + i)
  const problem: ClusterProblem = {
    d,
    k,
    groups: rowGroups.map((rowGroup) => vectorsOf(walk, rowGroup, start, end)),
    metric: metrics.subarray(start * d, end * d),
    period: (end - start) / d,
  }
  const seeds = rowGroups.map((rowGroup) => deriveSeed(settings.seed, rowGroup, columnGroup))
  const clustering = kernels().openClustering(problem)
  try {
    seedCodebooks(settings.kmeansInit, clustering, problem, seeds)
    runEm(clustering, problem, settings.kmeansIterations)
    for (const [i, rowGroup] of rowGroups.entries()) {
      const group = rowGroup * columnGroupsOf(layout) + columnGroup
      layer.codebookScales[group] = storeCodebook(clustering.codebook(i), layer.codebooks, group * k * d)
      const codebook = walk.codebooks.subarray(group * k * d, (group + 1) * k * d)
      loadCodebook(layer.codebooks, group * k * d, layer.codebookScales[group], codebook)
    }
  } finally {
    clustering.close()
  }
}

/** The weights of one group as they stand, row after row. */
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
