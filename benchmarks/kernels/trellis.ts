/** Trellis codes: the Viterbi algorithm by the plain kernels and the fast ones. */

import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { referenceTrellisKernels } from '../../src/kernels/reference/trellis.js'
import type { TrellisKernels, TrellisTask } from '../../src/kernels/trellis-contract.js'
import { createPool } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, type KernelBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import { trellisKernels } from '../../src/kernels/wasm/trellis/trellis.js'
import { type Contender, hasty, spreadOf, thorough, timeTogether } from '../common/harness.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'

/** Columns of vectors that are searched at once. */
const COLUMNS = 4

interface Size {
  readonly d: number
  readonly indexBits: number
  readonly stateBits: number
  readonly rows: number
  readonly rowsPerStart: number
}

export async function trellisTables({ quick }: SuiteOptions): Promise<Table[]> {
  const pairs = { d: 2, indexBits: 4, rows: 1024, rowsPerStart: 0 }
  const sizes: Size[] = quick
    ? [{ ...pairs, rows: 64, stateBits: 6 }]
    : [
        { ...pairs, stateBits: 8 },
        { ...pairs, stateBits: 10 },
        { ...pairs, stateBits: 12 },
        { ...pairs, stateBits: 12, rowsPerStart: 64 },
        { ...pairs, stateBits: 12, indexBits: 2 },
        { ...pairs, stateBits: 12, indexBits: 6 },
        { ...pairs, stateBits: 12, d: 1 },
        { ...pairs, stateBits: 12, d: 4 },
        { ...pairs, stateBits: 14 },
      ]
  const rows: Row[] = []
  for (const size of sizes) rows.push(...(await timeSize(size, quick)))
  return [
    {
      id: 'trellis',
      title: 'Trellis codes',
      note:
        `\`searchTrellis\` on ${COLUMNS} columns of vectors: the best of all streams of indices of w bits where a centroid ` +
        'depends on the last L bits. `Gstate/s`: keys weighed, `2^L` of them a vector.',
      columns: [
        { key: 'd', label: 'd', decimals: 0 },
        { key: 'indexBits', label: 'w', decimals: 0 },
        { key: 'stateBits', label: 'L', decimals: 0 },
        { key: 'rowsPerStart', label: 'rows per start', decimals: 0 },
        { key: 'kernels', label: 'kernels' },
        { key: 'threads', label: 'threads', decimals: 0 },
        { key: 'microseconds', label: 'µs per vector', digits: 3 },
        { key: 'spread', label: 'spread %', decimals: 0 },
        { key: 'rate', label: 'Gstate/s', digits: 3 },
        { key: 'toPlain', label: 'times plain', digits: 3 },
      ],
      rows,
      keys: ['d', 'indexBits', 'stateBits', 'rowsPerStart', 'kernels', 'threads'],
      compared: 'microseconds',
    },
  ]
}

interface Candidate {
  readonly name: string
  readonly threads: number
  readonly kernels: TrellisKernels
}

function candidates(): Candidate[] {
  const builds: KernelBuild[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']
  const fast = builds.flatMap((name) =>
    [1, 2].map((threads) => ({
      name,
      threads,
      kernels: trellisKernels(createPool(startRuntime(name), threads)),
    })),
  )
  return [{ name: 'reference', threads: 1, kernels: referenceTrellisKernels }, ...fast]
}

async function timeSize(size: Size, quick: boolean): Promise<Row[]> {
  const { d, indexBits, stateBits, rows, rowsPerStart } = size
  const tasks = tasksOf(size)
  const known = candidates()
  const contenders: Contender[] = known.map(({ name, threads, kernels }) => {
    // the plain kernels take long enough with one column
    const own = name === 'reference' ? tasks.slice(0, 1) : tasks
    return { name: `${name} ${threads}`, run: () => kernels.searchTrellis(own) }
  })
  const timings = await timeTogether(contenders, quick ? hasty : { ...thorough, rounds: 7 })
  const microseconds = ({ name, threads }: Candidate) => {
    const { seconds } = timings.get(`${name} ${threads}`)!
    return (1e6 * seconds) / (rows * (name === 'reference' ? 1 : COLUMNS))
  }
  return known.map((candidate): Row => {
    const { name, threads } = candidate
    const timing = timings.get(`${name} ${threads}`)!
    const own = microseconds(candidate)
    return {
      ...{ d, indexBits, stateBits, rowsPerStart: rowsPerStart || rows, kernels: name, threads },
      ...{ fastest: timing.fastest, slowest: timing.slowest, runs: timing.runs },
      microseconds: own,
      spread: spreadOf(timing),
      rate: 1e-3 * (2 ** stateBits / own),
      toPlain: microseconds(known[0]) / own,
    }
  })
}

/** Normal weights and centroids, scales of one size, one metric: what they are does not matter to the time. */
function tasksOf({ d, indexBits, stateBits, rows, rowsPerStart }: Size): TrellisTask[] {
  const random = randomGenerator(1)
  const normals = (length: number) => Float32Array.from({ length }, () => randomNormal(random))
  const centroids = normals(2 ** stateBits * d)
  return Array.from({ length: COLUMNS }, () => ({
    ...{ rows, rowsPerStart, vectorDim: d, indexBits, stateBits, centroids },
    targets: { data: normals(rows * d), offset: 0, stride: d },
    scales: { data: Float32Array.from({ length: rows }, () => 0.5 + random()), offset: 0, stride: 1 },
    metric: Float64Array.from({ length: d * d }, (_, i) => (i % (d + 1) === 0 ? 1 : 0.25)),
    keys: new Uint16Array(rows),
    keyOffset: 0,
    keyStride: 1,
  }))
}
