import { runEm } from '../codebook/em.js'
import { seedCodebooks } from '../codebook/seeds.js'
import { loadCodebook, storeCodebook } from '../codebook/store-codebook.js'
import type { Pause } from '../event-loop.js'
import type { ClusterProblem } from '../kernels/contract.js'
import { kernels } from '../kernels/kernels.js'
import { chooseScales, X } from './block-scales.js'
import { scaleLevels } from '../packing/block-scales.js'
import { blocksPerRow, centroidsOf, columnGroupsOf, rowGroupsOf } from '../packing/vq-layer.js'
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
  const size = layout.scaleBlockSize
  if (size) for (const rowGroup of rowGroups) chooseScales(walk, rowGroup, start, end)
  const problemAt = (shift: number): ClusterProblem => ({
    d,
    k,
    groups: rowGroups.map((rowGroup) => vectorsOf(walk, rowGroup, start, end, shift)),
    metric: metrics.subarray(start * d, end * d),
    period: (end - start) / d,
    ...(size && { weights: rowGroups.map((rowGroup) => weightsOf(walk, rowGroup, start, end, shift)) }),
  })
  let problem = problemAt(0)
  const seeds = rowGroups.map((rowGroup) => deriveSeed(settings.seed, rowGroup, columnGroup))
  let clustering = kernels().openClustering(problem)
  try {
    seedCodebooks(settings.kmeansInit, clustering, problem, seeds)
    const hist = runEm(clustering, problem, X.firstIterations && size ? X.firstIterations : settings.kmeansIterations)
    for (let round = 0; size && round < X.rounds; round++) {
      const blocks = Math.ceil((end - start) / size)
      const books = rowGroups.map((_, i) => clustering.codebook(i))
      const shifts = X.shifts ?? [-1, 0, 1]
      const costs = shifts.map((shift: number) => {
        const p = problemAt(shift)
        const c = kernels().openClustering(p)
        for (const [i, book] of books.entries())
          for (let j = 0; j < k; j++) c.setCentroid(i, j, book.subarray(j * d, (j + 1) * d))
        c.assign()
        const sums = rowGroups.map((_, i) => {
          const distances = c.distances(i)
          const perRow = (end - start) / d
          const rows = distances.length / perRow
          const s = new Float64Array(rows * blocks)
          for (let v = 0; v < distances.length; v++)
            s[Math.floor(v / perRow) * blocks + Math.floor(((v % perRow) * d) / size)] += distances[v]
          return s
        })
        c.close()
        return sums
      })
      let changed = 0
      const { codes, ratio } = layer.blockScales!
      const levels = scaleLevels(ratio)
      const perRow = blocksPerRow(layout)
      for (const [i, rowGroup] of rowGroups.entries()) {
        const n = costs[0][i].length
        for (let b = 0; b < n; b++) {
          let best = 0
          let least = Infinity
          for (const [s, shift] of shifts.entries()) {
            const cost = costs[s][i][b] * (shift === 0 ? 1 - 1e-6 : 1)
            if (cost < least) {
              least = cost
              best = shift
            }
          }
          const at = (rowGroup * layout.rowsPerGroup + Math.floor(b / blocks)) * perRow + start / size + (b % blocks)
          const code = Math.min(15, Math.max(0, codes[at] + best))
          if (code !== codes[at]) changed++
          codes[at] = code
          walk.scales![at] = levels[code]
        }
      }
      if (X.log2) console.log('round', round, 'changed', changed, 'of', rowGroups.length * costs[0][0].length, hist.map((h) => h.length + ':' + h.at(-1)!.toPrecision(4)).slice(0, 3).join(' '))
      clustering.close()
      problem = problemAt(0)
      clustering = kernels().openClustering(problem)
      for (const [i, book] of books.entries())
        for (let j = 0; j < k; j++) clustering.setCentroid(i, j, book.subarray(j * d, (j + 1) * d))
      runEm(clustering, problem, X.moreIterations ?? settings.kmeansIterations)
    }
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
function weightsOf(walk: ColumnWalk, rowGroup: number, start: number, end: number, shift: number): Float32Array {
  const { layout } = walk
  const d = layout.vectorDim
  const firstRow = rowGroup * layout.rowsPerGroup
  const rows = Math.min(layout.rowsPerGroup, layout.rows - firstRow)
  const per = (end - start) / d
  const w = new Float32Array(rows * per)
  for (let r = 0; r < rows; r++)
    for (let v = 0; v < per; v++) w[r * per + v] = levelAt(walk, firstRow + r, start + v * d, shift) ** 2
  return w
}

function levelAt({ layout, layer }: ColumnWalk, r: number, column: number, shift: number): number {
  const size = layout.scaleBlockSize
  if (!size || !layer.blockScales) return 1
  const { codes, ratio } = layer.blockScales
  const levels = scaleLevels(ratio)
  return levels[Math.min(15, Math.max(0, codes[r * blocksPerRow(layout) + Math.floor(column / size)] + shift))]
}

function vectorsOf(walk: ColumnWalk, rowGroup: number, start: number, end: number, shift: number): Float32Array {
  const { layout, work } = walk
  const firstRow = rowGroup * layout.rowsPerGroup
  const rows = Math.min(layout.rowsPerGroup, layout.rows - firstRow)
  const width = end - start
  const vectors = new Float32Array(rows * width)
  for (let r = 0; r < rows; r++) {
    const at = (firstRow + r) * work.cols
    vectors.set(work.data.subarray(at + start, at + end), r * width)
    if (layout.scaleBlockSize) for (let j = 0; j < width; j++) vectors[r * width + j] /= levelAt(walk, firstRow + r, start + j, shift)
  }
  return vectors
}
