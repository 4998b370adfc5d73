import { runEm } from '../codebook/em.js'
import { seedCodebooks } from '../codebook/seeds.js'
import { loadCodebook, storeCodebook } from '../codebook/store-codebook.js'
import type { Pause } from '../event-loop.js'
import type { Clustering, ClusterProblem } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import { centroidsOf, columnGroupsOf, rowGroupsOf } from '../packing/vq-layer.js'
import { deriveSeed } from '../random.js'
import { chooseScales, rechooseScales } from './choose-scales.js'
import { clusterProblem, type GroupBatch, placeCentroids } from './cluster-problem.js'
import type { ColumnWalk } from './column-walk.js'

/** Bytes of vectors in the kernels' memory at once, and distances measured between two pauses, unless a group has more. */
const BATCH_BYTES = 2 ** 25
const BATCH_DISTANCES = 2 ** 30

/**
 * Fits the codebooks of one column group (DESIGN: mathematics, 5), each to the weights of its rows as they stand when
 * the walk reaches it. They are rounded to their stored form before they are used, so that the error feedback makes up
 * for that rounding too. With block scales: these are chosen by the size of the blocks, the codebooks fitted, the
 * scales chosen again by the distances to the centroids, and the codebooks fitted on.
 */
export async function fitColumnGroup(walk: ColumnWalk, columnGroup: number, pause: Pause): Promise<void> {
  const { layout, settings, work, scales } = walk
  const start = columnGroup * layout.columnsPerGroup
  const end = Math.min(start + layout.columnsPerGroup, work.cols)
  const { vectorDim: d, rowsPerGroup } = layout
  const rowGroups = rowGroupsOf(layout)
  const vectors = (rowsPerGroup * (end - start)) / d
  const runs = settings.restarts + (scales ? 1 : 0)
  const distances = vectors * centroidsOf(layout) * (settings.kmeansIterations + 1) * runs
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
  const { layout, layer } = walk
  const rowGroups = Array.from({ length: last - first }, (_, i) => first + i)
  const batch = { rowGroups, start, end }
  if (walk.scales) chooseScales(walk, batch)
  let { codebooks } = fitFromSeeds(walk, batch, columnGroup)
  if (walk.scales) {
    rechooseScales(walk, batch, codebooks)
    const found = codebooks
    codebooks = fitBatch(walk, batch, (...opened) => placeCentroids(...opened, found)).codebooks
  }
  const size = centroidsOf(layout) * layout.vectorDim
  for (const [i, rowGroup] of rowGroups.entries()) {
    const at = (rowGroup * columnGroupsOf(layout) + columnGroup) * size
    const group = at / size
    layer.codebookScales[group] = storeCodebook(codebooks[i], layer.codebooks, at)
    const codebook = walk.codebooks.subarray(at, at + size)
    loadCodebook(layer.codebooks, at, layer.codebookScales[group], codebook)
  }
}

/** Codebooks of a batch of groups, each k x d, and their losses. */
interface FittedBatch {
  readonly codebooks: Float32Array[]
  readonly losses: Float64Array
}

/** As many fits as the settings ask for; of each group the best is kept. */
function fitFromSeeds(walk: ColumnWalk, batch: GroupBatch, columnGroup: number): FittedBatch {
  const { restarts, seed, kmeansInit } = walk.settings
  const fitOnce = (...attempt: number[]) => {
    const seeds = batch.rowGroups.map((rowGroup) => deriveSeed(seed, rowGroup, columnGroup, ...attempt))
    return fitBatch(walk, batch, (...opened) => seedCodebooks(kmeansInit, ...opened, seeds))
  }
  const best = fitOnce()
  for (let attempt = 1; attempt < restarts; attempt++) {
    const { codebooks, losses } = fitOnce(attempt)
    for (let group = 0; group < losses.length; group++) {
      if (losses[group] >= best.losses[group]) continue
      best.losses[group] = losses[group]
      best.codebooks[group] = codebooks[group]
    }
  }
  return best
}

/** EM on the weights as they stand, from the centroids that `start` sets. */
function fitBatch(
  walk: ColumnWalk,
  batch: GroupBatch,
  start: (clustering: Clustering, problem: ClusterProblem) => void,
): FittedBatch {
  const { kmeansIterations, kmeansTolerance } = walk.settings
  const problem = clusterProblem(walk, batch)
  const clustering = kernels().openClustering(problem)
  try {
    start(clustering, problem)
    runEm(clustering, problem, kmeansIterations, kmeansTolerance)
    const codebooks = batch.rowGroups.map((_, i) => clustering.codebook(i))
    return { codebooks, losses: clustering.losses.slice() }
  } finally {
    clustering.close()
  }
}
