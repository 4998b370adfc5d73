import { kmeans } from 'ml-kmeans'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import type { Clustering, ClusterProblem, Kernels } from '../../src/kernels/contract.js'
import { setThreads, threadCount, useKernels } from '../../src/kernels/kernels.js'
import { referenceKernels } from '../../src/kernels/reference/kernels.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import { type Contender, hasty, spreadOf, thorough, timeTogether } from '../common/harness.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'

const ML_KMEANS = 'ml-kmeans'
const ASSIGN = 'assign'
const ITERATION = 'assign and move'

interface Problem {
  readonly n: number
  readonly d: number
  readonly k: number
}

interface StepContender extends Contender {
  readonly implementation: string
  readonly threads: number
}

/** The two steps of k-means under a metric per vector, and beside them one iteration of `ml-kmeans`. */
export async function clusteringTables({ quick }: SuiteOptions): Promise<Table[]> {
  const n = quick ? 1024 : 2 ** 16
  const sizes = quick
    ? [
        [1, 4],
        [2, 16],
      ]
    : [
        [1, 4],
        [1, 256],
        [2, 16],
        [2, 256],
        [4, 256],
        [4, 4096],
      ]
  const rows: Row[] = []
  for (const [d, k] of sizes) rows.push(...(await timeSteps({ n, d, k }, quick)))
  return [
    {
      id: 'clustering',
      title: 'Clustering',
      note:
        `${n.toLocaleString('en')} Gaussian vectors of d numbers, k centroids, a full d x d metric per vector. ` +
        `\`${ASSIGN}\`: every vector to its nearest centroid; \`${ITERATION}\`: a whole iteration. ${ML_KMEANS} knows no ` +
        'metric, so its iteration does less. Each step starts from one of two unrelated codebooks in turn, the worst case ' +
        'for searches that begin at the centroid before (2-D from 256 centroids on, see the table below). Mvec/s: a ' +
        'million vectors per second.',
      columns: [
        { key: 'd', label: 'd', decimals: 0 },
        { key: 'k', label: 'k', decimals: 0 },
        { key: 'step', label: 'step' },
        { key: 'implementation', label: 'implementation' },
        { key: 'threads', label: 'threads', decimals: 0 },
        { key: 'milliseconds', label: 'ms', digits: 3 },
        { key: 'spread', label: 'spread %', decimals: 0 },
        { key: 'rate', label: 'Mvec/s', digits: 3 },
        { key: 'toReference', label: 'times reference', digits: 3 },
        { key: 'toMlKmeans', label: `times ${ML_KMEANS}`, digits: 3 },
      ],
      rows,
      keys: ['d', 'k', 'step', 'implementation', 'threads'],
      compared: 'rate',
    },
  ]
}

async function timeSteps(problem: Problem, quick: boolean): Promise<Row[]> {
  const most = threadCount()
  const fast = useKernels(bestBuild())
  const vectors = gaussian(problem.n * problem.d, 5)
  const codebooks = [gaussian(problem.k * problem.d, 6), gaussian(problem.k * problem.d, 7)]
  const clusterings = [fast, referenceKernels].map((kernel) => openOn(kernel, problem, vectors))
  const rows: Row[] = []
  for (const step of [ASSIGN, ITERATION]) {
    const contenders = [
      ...(most > 1 ? [1, most] : [1]).map((threads) =>
        ownStep(fast, clusterings[0], problem, codebooks, step, threads),
      ),
      ownStep(referenceKernels, clusterings[1], problem, codebooks, step, 1),
      ...(step === ITERATION ? [mlKmeansStep(problem, vectors, codebooks)] : []),
    ]
    rows.push(...(await timeStep(problem, step, contenders, quick)))
  }
  for (const clustering of clusterings) clustering.close()
  setThreads(most)
  return rows
}

async function timeStep(
  { n, d, k }: Problem,
  step: string,
  contenders: readonly StepContender[],
  quick: boolean,
): Promise<Row[]> {
  const timings = await timeTogether(contenders, quick ? hasty : { ...thorough, rounds: 5 })
  const rateOf = (name: string) => (1e-6 * n) / timings.get(name)!.seconds
  return contenders.map(({ name, implementation, threads }): Row => {
    const timing = timings.get(name)!
    return {
      d,
      k,
      step,
      implementation,
      threads,
      milliseconds: 1e3 * timing.seconds,
      fastest: timing.fastest,
      slowest: timing.slowest,
      runs: timing.runs,
      spread: spreadOf(timing),
      rate: rateOf(name),
      toReference: rateOf(name) / rateOf(`${referenceKernels.name} 1`),
      toMlKmeans: timings.has(ML_KMEANS) ? rateOf(name) / rateOf(ML_KMEANS) : null,
    }
  })
}

/** As many metrics as 256 columns have vectors. */
function openOn(kernel: Kernels, { d, k }: Problem, vectors: Float32Array): Clustering {
  const period = 256 / d
  const problem: ClusterProblem = { d, k, groups: [vectors], metric: randomMetrics(period, d), period }
  return kernel.openClustering(problem)
}

/** Each run starts from other centroids than the run before: what a search might have kept does not help it. */
function ownStep(
  kernel: Kernels,
  clustering: Clustering,
  { d, k }: Problem,
  codebooks: readonly Float32Array[],
  step: string,
  threads: number,
): StepContender {
  let runs = 0
  return {
    name: `${kernel.name} ${threads}`,
    implementation: kernel.name,
    threads,
    run() {
      setThreads(threads)
      const codebook = codebooks[runs++ % codebooks.length]
      for (let j = 0; j < k; j++) clustering.setCentroid(0, j, codebook.subarray(j * d, (j + 1) * d))
      clustering.assign()
      if (step === ITERATION) clustering.move(true)
    },
  }
}

function mlKmeansStep(
  { n, d, k }: Problem,
  vectors: Float32Array,
  codebooks: readonly Float32Array[],
): StepContender {
  const nested = rowsOf(vectors, n, d)
  const seeds = codebooks.map((codebook) => rowsOf(codebook, k, d))
  let runs = 0
  return {
    name: ML_KMEANS,
    implementation: ML_KMEANS,
    threads: 1,
    run: () =>
      void kmeans(nested, k, {
        initialization: seeds[runs++ % seeds.length],
        maxIterations: 1,
        tolerance: 0,
      }),
  }
}

function rowsOf(data: Float32Array, rows: number, cols: number): number[][] {
  return Array.from({ length: rows }, (_, i) => Array.from(data.subarray(i * cols, (i + 1) * cols)))
}

/** `count` positive definite matrices, `A A^T + 1/4`. */
function randomMetrics(count: number, d: number): Float64Array {
  const factors = gaussian(count * d * d, 8)
  const metrics = new Float64Array(count * d * d)
  for (let p = 0; p < count; p++) {
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) {
        let sum = a === b ? 0.25 : 0
        for (let q = 0; q < d; q++) sum += factors[(p * d + a) * d + q] * factors[(p * d + b) * d + q]
        metrics[(p * d + a) * d + b] = sum
      }
    }
  }
  return metrics
}

function gaussian(length: number, seed: number): Float32Array {
  const random = randomGenerator(seed)
  return Float32Array.from({ length }, () => randomNormal(random))
}
