import { fitCodebook, type Matrix, matrix } from 'gptvq'
import { kmeans } from 'ml-kmeans'
import { setThreads, threadCount, useKernels } from '../src/kernels/kernels.js'
import { bestBuild } from '../src/kernels/wasm/runtime.js'
import { randomGenerator, randomNormal } from '../src/random.js'
import { type Contender, hasty, spreadOf, thorough, timeTogether } from './harness.js'
import type { Row, Table } from './report.js'
import type { SuiteOptions } from './suites.js'

interface Problem {
  readonly n: number
  readonly d: number
  readonly k: number
}

const ITERATIONS = 10

/** A whole codebook fit, against ml-kmeans. */
export async function clusteringTables({ quick }: SuiteOptions): Promise<Table[]> {
  const n = quick ? 2048 : 65536
  const problems: Problem[] = [
    { n, d: 1, k: 4 },
    { n, d: 1, k: 16 },
    { n, d: 2, k: 16 },
    { n, d: 2, k: quick ? 64 : 256 },
    { n, d: 4, k: quick ? 64 : 256 },
  ]
  useKernels(bestBuild())
  const rows: Row[] = []
  for (const problem of problems) rows.push(...(await timeFit(problem, quick)))
  return [
    {
      id: 'codebook-fit',
      title: 'Fitting a codebook',
      note:
        `\`fitCodebook\` against \`ml-kmeans\`: n = ${n.toLocaleString('en')} Gaussian vectors of d numbers, k centroids, ` +
        `the same seeds, squared distance, at most ${ITERATIONS} iterations. A million vectors per second (Mvec/s) counts ` +
        'each vector once per iteration.',
      columns: [
        { key: 'd', label: 'd', decimals: 0 },
        { key: 'k', label: 'k', decimals: 0 },
        { key: 'implementation', label: 'implementation' },
        { key: 'threads', label: 'threads', decimals: 0 },
        { key: 'milliseconds', label: 'ms', digits: 3 },
        { key: 'spread', label: 'spread %', decimals: 0 },
        { key: 'rate', label: 'Mvec/s', digits: 3 },
        { key: 'toMlKmeans', label: 'times ml-kmeans', digits: 3 },
      ],
      rows,
      keys: ['d', 'k', 'implementation', 'threads'],
      compared: 'rate',
    },
  ]
}

async function timeFit({ n, d, k }: Problem, quick: boolean): Promise<Row[]> {
  const vectors = gaussianVectors(n, d)
  const nested = Array.from({ length: n }, (_, i) => Array.from(vectors.data.subarray(i * d, (i + 1) * d)))
  const seeds = mahalanobisSeeds(vectors, k)
  const iterations = new Map<string, number>()
  const own = (threads: number): Contender => ({
    name: `fitCodebook ${threads}`,
    run() {
      setThreads(threads)
      const { losses } = fitCodebook(vectors, { k, iterations: ITERATIONS })
      iterations.set(`fitCodebook ${threads}`, losses.length)
    },
  })
  const most = threadCount()
  const contenders: Contender[] = [
    ...(most > 1 ? [own(1), own(most)] : [own(1)]),
    {
      name: 'ml-kmeans',
      run() {
        const result = kmeans(nested, k, { initialization: seeds, maxIterations: ITERATIONS, tolerance: 0 })
        iterations.set('ml-kmeans', result.iterations)
      },
    },
  ]
  const timings = await timeTogether(contenders, quick ? hasty : { ...thorough, rounds: 3 })
  setThreads(most)
  const rateOf = (name: string) => (1e-6 * n * iterations.get(name)!) / timings.get(name)!.seconds
  return contenders.map(({ name }) => ({
    d,
    k,
    implementation: name.split(' ')[0],
    threads: Number(name.split(' ')[1] ?? 1),
    milliseconds: 1e3 * timings.get(name)!.seconds,
    spread: spreadOf(timings.get(name)!),
    rate: rateOf(name),
    toMlKmeans: rateOf(name) / rateOf('ml-kmeans'),
  }))
}

/** The seeds that `fitCodebook` starts from, as `ml-kmeans` takes them. */
function mahalanobisSeeds(vectors: Matrix, k: number): number[][] {
  const { codebook } = fitCodebook(vectors, { k, iterations: 0 })
  return Array.from({ length: k }, (_, j) =>
    Array.from(codebook.data.subarray(j * vectors.cols, (j + 1) * vectors.cols)),
  )
}

function gaussianVectors(n: number, d: number): Matrix {
  const random = randomGenerator(5)
  return matrix(
    n,
    d,
    Float32Array.from({ length: n * d }, () => randomNormal(random)),
  )
}
