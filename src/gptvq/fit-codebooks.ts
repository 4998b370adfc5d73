import { runEm } from '../codebook/em.js'
import { seedCodebook } from '../codebook/seeds.js'
import { loadCodebook, storeCodebook } from '../codebook/store-codebook.js'
import type { Pause } from '../event-loop.js'
import { centroidsOf, columnGroupsOf, rowGroupsOf } from '../packing/vq-layer.js'
import { deriveSeed } from '../random.js'
import type { ColumnWalk } from './column-walk.js'

/**
 * Fits the codebooks of one column group (columns `start` to `end`), each to the weights of its rows as they stand, and
 * rounds them to their stored form.
 */
export async function fitColumnGroup(
  walk: ColumnWalk,
  columnGroup: number,
  start: number,
  end: number,
  pause: Pause,
): Promise<void> {
  const rowGroups = rowGroupsOf(walk.layout)
  for (let rowGroup = 0; rowGroup < rowGroups; rowGroup++) {
    await pause()
    fitGroup(walk, rowGroup, columnGroup, start, end)
  }
}

function fitGroup(walk: ColumnWalk, rowGroup: number, columnGroup: number, start: number, end: number): void {
  const { layout, settings, work, metrics, layer } = walk
  const { vectorDim: d, rowsPerGroup } = layout
  const k = centroidsOf(layout)
  const firstRow = rowGroup * rowsPerGroup
  const rows = Math.min(rowsPerGroup, layout.rows - firstRow)
  const width = end - start
  const vectors = new Float32Array(rows * width)
  for (let r = 0; r < rows; r++) {
    const at = (firstRow + r) * work.cols
    vectors.set(work.data.subarray(at + start, at + end), r * width)
  }
  const n = vectors.length / d
  const metric = { period: width / d, data: metrics.subarray(start * d, end * d) }
  const group = rowGroup * columnGroupsOf(layout) + columnGroup
  const codebook = walk.codebooks.subarray(group * k * d, (group + 1) * k * d)
  const seed = deriveSeed(settings.seed, rowGroup, columnGroup)
  seedCodebook(settings.kmeansInit, vectors, n, d, metric, k, seed, codebook)
  runEm(vectors, n, d, metric, codebook, k, settings.kmeansIterations)
  layer.codebookScales[group] = storeCodebook(codebook, layer.codebooks, group * k * d)
  loadCodebook(layer.codebooks, group * k * d, layer.codebookScales[group], codebook)
}
