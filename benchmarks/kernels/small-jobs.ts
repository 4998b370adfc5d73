/**
 * Jobs of less than a millisecond on one thread and on two: a few iterations of EM over few vectors, alternately, many times.
 * `npx tsx benchmarks/kernels/small-jobs.ts` prints Markdown. Other programs may take the cores, so the scheduler of Linux
 * is asked, round by round, how long both threads ran and how long they waited for a core: rounds in which the caller
 * waited do not count, and the others are told apart by the share of the time that the worker ran.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { runEm } from '../../src/codebook/em.js'
import { setThreads, useKernels } from '../../src/kernels/kernels.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import { gaussianMatrix } from '../../test/support/random-matrix.js'

const ITERATIONS = 4
const PERIOD = 8
/** Rounds on two threads at most, and seconds of a row. */
const [ROUNDS, SECONDS] = [3000, 12]
/** Of a round: a caller that waited for longer was disturbed. */
const MOST_WAITING = 0.03

const kernels = useKernels(bestBuild())
const main = String(process.pid)
const worker = workerOf(openProblem(16, 2048, 2, 16))
console.log(
  '| groups x vectors | d | k | on one thread, us | worker ran for < 20 %, 20 to 80 %, > 80 % of a round | times on two: 20 to 80 % | > 80 % |',
)
console.log('| --- | --- | --- | --- | --- | --- | --- |')
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
  const { one, two } = timesOf(openProblem(groups, n, d, k))
  const [absent, some, there] = [
    two.filter(({ share }) => share < 0.2),
    two.filter(({ share }) => share >= 0.2 && share <= 0.8),
    two.filter(({ share }) => share > 0.8),
  ]
  const alone = one.length === 0 ? Number.NaN : medianOf(one)
  const counts = [absent, some, there].map(({ length }) => length).join(', ')
  const times = [some, there].map((rounds) =>
    rounds.length < 5 ? '' : (alone / medianOf(rounds.map(({ ms }) => ms))).toFixed(2),
  )
  console.log(
    `| ${groups} x ${n} | ${d} | ${k} | ${one.length === 0 ? 'always disturbed' : (1000 * alone).toFixed(0)} | ${counts} | ${times.join(' | ')} |`,
  )
}
process.exit(0)

interface Problem {
  run(threads: number): void
  close(): void
}

function openProblem(groups: number, n: number, d: number, k: number): Problem {
  const metric = Float64Array.from({ length: PERIOD * d * d }, (_, i) =>
    (i % (d * d)) % (d + 1) === 0 ? 1 : 0,
  )
  const vectors = Array.from({ length: groups }, (_, group) => gaussianMatrix(n, d, group).data)
  const problem = { d, k, groups: vectors, metric, period: PERIOD }
  const clustering = kernels.openClustering(problem)
  const start = gaussianMatrix(k, d, groups).data
  return {
    run(threads) {
      setThreads(threads)
      for (let group = 0; group < groups; group++) {
        for (let j = 0; j < k; j++) clustering.setCentroid(group, j, start.subarray(j * d, (j + 1) * d))
      }
      runEm(clustering, problem, ITERATIONS, 0)
    },
    close: () => clustering.close(),
  }
}

/** The thread that runs most beside this one. */
function workerOf({ run, close }: Problem): string {
  run(2)
  const others = readdirSync('/proc/self/task').filter((thread) => thread !== main)
  const before = others.map((thread) => scheduled(thread).ran)
  for (let i = 0; i < 200; i++) run(2)
  const ran = others.map((thread, i) => scheduled(thread).ran - before[i])
  close()
  return others[ran.indexOf(Math.max(...ran))]
}

/** Milliseconds that a thread ran, and that it waited for a core. */
function scheduled(thread: string): { ran: number; waited: number } {
  const [ran, waited] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ').map(Number)
  return { ran: ran / 1e6, waited: waited / 1e6 }
}

interface Times {
  /** Milliseconds of an iteration on one thread, of every round. */
  readonly one: number[]
  /** On two, and the share of the time that the worker ran. */
  readonly two: { readonly ms: number; readonly share: number }[]
}

function timesOf({ run, close }: Problem): Times {
  const times: Times = { one: [], two: [] }
  const until = performance.now() + 1000 * SECONDS
  while (times.two.length < ROUNDS && performance.now() < until) {
    for (const threads of [1, 2]) {
      const before = [main, worker].map(scheduled)
      const begin = performance.now()
      run(threads)
      const ms = performance.now() - begin
      const [own, other] = [main, worker].map(scheduled)
      if (own.waited - before[0].waited > MOST_WAITING * ms) continue
      if (threads === 1) times.one.push(ms / ITERATIONS)
      else times.two.push({ ms: ms / ITERATIONS, share: (other.ran - before[1].ran) / ms })
    }
  }
  close()
  return times
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]
}
