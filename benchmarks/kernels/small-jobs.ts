/**
 * Jobs of less than a millisecond on one thread and on two: an iteration of EM over few vectors, alternately, many times.
 * `npx tsx benchmarks/kernels/small-jobs.ts` prints Markdown. Beside the median it gives the fastest fifth, since a thread that
 * another program keeps from its core holds up a job for longer than the job takes.
 */
import { runEm } from '../../src/codebook/em.js'
import { setThreads, useKernels } from '../../src/kernels/kernels.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import { gaussianMatrix } from '../../test/support/random-matrix.js'

const ITERATIONS = 20
const ROUNDS = 60
const PERIOD = 8

const kernels = useKernels(bestBuild())
console.log(
  '| groups x vectors | d | k | on one thread, us | fastest fifth: times on two | median: times on two |',
)
console.log(
  '| ---------------- | - | - | ----------------- | --------------------------- | -------------------- |',
)
for (const [groups, n, d, k] of [
  [1, 256, 2, 16],
  [1, 4096, 2, 16],
  [1, 8192, 2, 16],
  [1, 16384, 2, 16],
  [1, 65536, 2, 16],
  [1, 16384, 4, 16],
  [4, 2048, 2, 16],
  [16, 2048, 2, 16],
  [4, 4096, 2, 256],
]) {
  const [one, two] = iterationTimes(groups, n, d, k)
  const times = (share: number) => (quantile(one, share) / quantile(two, share)).toFixed(2)
  const alone = (1000 * quantile(one, 0.2)).toFixed(0)
  console.log(`| ${groups} x ${n} | ${d} | ${k} | ${alone} | ${times(0.2)} | ${times(0.5)} |`)
}

/** Milliseconds of an iteration, of every round, on one thread and on two. */
function iterationTimes(groups: number, n: number, d: number, k: number): [number[], number[]] {
  const metric = Float64Array.from({ length: PERIOD * d * d }, (_, i) =>
    (i % (d * d)) % (d + 1) === 0 ? 1 : 0,
  )
  const vectors = Array.from({ length: groups }, (_, group) => gaussianMatrix(n, d, group).data)
  const problem = { d, k, groups: vectors, metric, period: PERIOD }
  const clustering = kernels.openClustering(problem)
  const start = gaussianMatrix(k, d, groups).data
  const times: [number[], number[]] = [[], []]
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, own] of times.entries()) {
      setThreads(i + 1)
      for (let group = 0; group < groups; group++) {
        for (let j = 0; j < k; j++) clustering.setCentroid(group, j, start.subarray(j * d, (j + 1) * d))
      }
      const begin = performance.now()
      runEm(clustering, problem, ITERATIONS, 0)
      own.push((performance.now() - begin) / ITERATIONS)
    }
  }
  clustering.close()
  return times
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(share * values.length)]
}
