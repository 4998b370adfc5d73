import { runEm } from '../../codebook/em.js'
import { seedCodebooks } from '../../codebook/seeds.js'
import { loadCodebook, storeCodebook } from '../../codebook/store-codebook.js'
import type { Pause } from '../../common/event-loop.js'
import { deriveSeed } from '../../common/random.js'
import type { Clustering, ClusterProblem } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { centroidsOf, columnGroupsOf, rowGroupsOf } from '../../packing/vq-layer.js'
import { chooseScales, rechooseScales } from '../scales/choose-scales.js'
import { clusterProblem, type GroupBatch, placeCentroids } from './cluster-problem.js'
import type { ColumnWalk } from './column-walk.js'

/** Bytes of vectors in the kernels' memory at once, and distances measured between two pauses, unless a group has more. */
const BATCH_BYTES = 2 ** 25
const BATCH_DISTANCES = 2 ** 30

/**
 * Fits the codebooks of one column group, each to the weights of its rows as they stand when
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
  let codebooks = fitFromSeeds(walk, batch, columnGroup)
  if (walk.scales) {
    rechooseScales(walk, batch, codebooks)
    codebooks = fitFrom(walk, batch, codebooks)
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

/** As many fits as the settings ask for; of each group the best is kept. */
function fitFromSeeds(walk: ColumnWalk, batch: GroupBatch, columnGroup: number): Float32Array[] {
  const { restarts, seed, kmeansInit } = walk.settings
  return withClustering(walk, batch, (clustering, problem) => {
    const best: { loss: number; codebook: Float32Array }[] = []
    for (let attempt = 0; attempt < restarts; attempt++) {
      const which = attempt > 0 ? [attempt] : []
      const seeds = batch.rowGroups.map((rowGroup) =>
        deriveSeed(seed, walk.firstGroup + rowGroup, columnGroup, ...which),
      )
      seedCodebooks(kmeansInit, clustering, problem, seeds)
      fitOn(walk, clustering, problem)
      for (const [group, loss] of clustering.losses.entries()) {
        if (attempt > 0 && loss >= best[group].loss) continue
        best[group] = { loss, codebook: clustering.codebook(group) }
      }
    }
    return best.map(({ codebook }) => codebook)
  })
}

/** Codebooks fitted on from those given, each k x d. */
function fitFrom(walk: ColumnWalk, batch: GroupBatch, codebooks: readonly Float32Array[]): Float32Array[] {
  return withClustering(walk, batch, (clustering, problem) => {
    placeCentroids(clustering, problem, codebooks)
    fitOn(walk, clustering, problem)
    return codebooks.map((_, group) => clustering.codebook(group))
  })
}

function fitOn({ settings }: ColumnWalk, clustering: Clustering, problem: ClusterProblem): void {
  runEm(clustering, problem, settings.kmeansIterations, settings.kmeansTolerance)
}

/** Opens a clustering of the weights as they stand. */
function withClustering<T>(
  walk: ColumnWalk,
  batch: GroupBatch,
  work: (clustering: Clustering, problem: ClusterProblem) => T,
): T {
  const problem = clusterProblem(walk, batch)
  const clustering = kernels().openClustering(problem)
  try {
    return work(clustering, problem)
  } finally {
    clustering.close()
  }
}
