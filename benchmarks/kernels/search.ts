/** Large codebooks: the search of a tree against the search through all centroids, which finds the same. */

import { randomGenerator } from '../../src/common/random.js'
import { vectorMetrics } from '../../src/gptvq/walk/vector-metric.js'
import { dampedInverseFactor } from '../../src/hessian/inverse-factor.js'
import type { Clustering, ClusterProblem } from '../../src/kernels/contract.js'
import type { ClusterSearch } from '../../src/kernels/wasm/clustering/cluster-tree.js'
import { clusterKernels } from '../../src/kernels/wasm/clustering/clustering.js'
import { createPool } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import { type Contender, hasty, spreadOf, type Timing, thorough, timeTogether } from '../common/harness.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import { correlatedHessian, generatorInWords, heavyTailedWeight } from '../common/synthetic.js'

/** Columns of a group, as in a layer. */
const WIDTH = 256
/** Iterations of k-means before any is timed. */
const SETTLING = 4
/** Seeds are not drawn by measuring every vector when that takes this many distances: it takes minutes. */
const MOST_SEED_DISTANCES = 2 ** 30

const SEEDS = 'seeds'
const ITERATION = 'assign and move'
const searches = ['all', 'tree'] as const

interface Size {
  readonly d: number
  readonly k: number
  /** Rows of the group. */
  readonly rows: number
}

export async function searchTables({ quick, full }: SuiteOptions): Promise<Table[]> {
  const sizes: Size[] = quick
    ? [
        { d: 2, k: 256, rows: 64 },
        { d: 4, k: 512, rows: 64 },
      ]
    : [
        { d: 2, k: 64, rows: 128 },
        { d: 2, k: 256, rows: 512 },
        { d: 2, k: 4096, rows: 512 },
        { d: 4, k: 64, rows: 512 },
        { d: 4, k: 256, rows: 512 },
        { d: 4, k: 512, rows: 512 },
        { d: 4, k: 4096, rows: 512 },
        ...(full ? [{ d: 4, k: 65536, rows: 1024 }] : []),
      ]
  const rows: Row[] = []
  for (const size of sizes) rows.push(...(await timeSize(size, quick)))
  return [
    {
      id: 'search',
      title: 'Large codebooks',
      note:
        `One group of ${WIDTH} columns of a layer (${generatorInWords}), one thread. \`${SEEDS}\`: k seeds drawn by ` +
        `distance; \`${ITERATION}\`: an iteration of k-means after ${SETTLING} others. \`all\`: every vector against every ` +
        'centroid; `tree`: the search that skips most of them. Both find the same bits; the library takes the tree from ' +
        '256 centroids on in 2-D and from 512 on in 4-D.',
      columns: [
        { key: 'd', label: 'd', decimals: 0 },
        { key: 'k', label: 'k', decimals: 0 },
        { key: 'vectors', label: 'vectors', decimals: 0 },
        { key: 'step', label: 'step' },
        { key: 'search', label: 'search' },
        { key: 'milliseconds', label: 'ms', digits: 3 },
        { key: 'spread', label: 'spread %', decimals: 0 },
        { key: 'rate', label: 'Mvec/s', digits: 3 },
        { key: 'toAll', label: 'times all', digits: 3 },
      ],
      rows,
      keys: ['d', 'k', 'step', 'search'],
      compared: 'milliseconds',
    },
  ]
}

async function timeSize(size: Size, quick: boolean): Promise<Row[]> {
  const problem = await problemOf(size)
  const runtime = startRuntime(bestBuild())
  const clusterings = searches.map((search) => {
    return clusterKernels(createPool(runtime, 1), search).openClustering(problem)
  })
  const vectors = problem.groups[0].length / size.d
  const isLong = vectors * size.k > MOST_SEED_DISTANCES
  const patience = quick ? hasty : { ...thorough, rounds: isLong ? 2 : 5, warmUpSeconds: isLong ? 0 : 0.3 }
  const drawing = searches
    .map((name, i) => ({ name, run: () => drawSeeds(clusterings[i], problem) }))
    .filter(({ name }) => name === 'tree' || !isLong)
  const seeds = await timeTogether(drawing, {
    ...patience,
    rounds: isLong ? 1 : patience.rounds,
    warmUpSeconds: 0,
  })
  // both begin from the same codebook, a copy where seeds were not drawn
  const codebook = clusterings[1].codebook(0)
  for (let j = 0; j < size.k; j++) {
    clusterings[0].setCentroid(0, j, codebook.subarray(j * size.d, (j + 1) * size.d))
  }
  const settling = isLong ? clusterings.slice(1) : clusterings
  for (const clustering of settling) for (let i = 0; i < SETTLING; i++) iterate(clustering)
  const contenders: Contender[] = searches.map((name, i) => ({ name, run: () => iterate(clusterings[i]) }))
  const iterations = await timeTogether(contenders, patience)
  for (const clustering of clusterings) clustering.close()
  return [...rowsOf(size, vectors, SEEDS, seeds), ...rowsOf(size, vectors, ITERATION, iterations)]
}

function rowsOf({ d, k }: Size, vectors: number, step: string, timings: ReadonlyMap<string, Timing>): Row[] {
  const all = timings.get('all')
  return searches.flatMap((search: ClusterSearch): Row[] => {
    const timing = timings.get(search)
    if (timing === undefined) return []
    const { seconds, fastest, slowest, runs } = timing
    return [
      {
        ...{ d, k, vectors, step, search, fastest, slowest, runs },
        milliseconds: 1e3 * seconds,
        spread: spreadOf(timing),
        rate: step === SEEDS ? null : (1e-6 * vectors) / seconds,
        toAll: all ? all.seconds / seconds : null,
      },
    ]
  })
}

async function problemOf({ d, k, rows }: Size): Promise<ClusterProblem> {
  const { factor } = await dampedInverseFactor(correlatedHessian(WIDTH, 1), 0.1, WIDTH, 'benchmark')
  const groups = [heavyTailedWeight(rows, WIDTH, 1).data]
  return { d, k, groups, metric: vectorMetrics(factor, d, 'full'), period: WIDTH / d }
}

function drawSeeds(clustering: Clustering, { d, k, groups }: ClusterProblem): void {
  const random = randomGenerator(3)
  clustering.placeSeed(0, 0, Math.floor((random() * groups[0].length) / d))
  for (let j = 1; j < k; j++) clustering.drawSeeds(j, Float64Array.of(random()))
}

function iterate(clustering: Clustering): void {
  clustering.assign()
  clustering.move(true)
}
