import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { wholeBlock } from '../../src/kernels/contract.js'
import type { AttentionTask, ForwardKernels } from '../../src/kernels/forward-contract.js'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'
import { setThreads, threadCount } from '../../src/kernels/kernels.js'
import { type Contender, hasty, spreadOf, thorough, timeTogether } from '../common/harness.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'

/** What a forward pass does on the kernels' own memory: attention, products of few rows, what comes between products. */
export async function forwardTables({ quick }: SuiteOptions): Promise<Table[]> {
  const tables = [await attentionTable(quick), await fewRowsTable(quick), await betweenTable(quick)]
  setThreads(Math.max(...threadCounts))
  return tables
}

/** One thread, and as many as are used by default. */
const threadCounts = threadCount() > 1 ? [1, threadCount()] : [1]

type Sizes = Omit<
  AttentionTask,
  'capacity' | 'scale' | 'softCap' | 'window' | 'queries' | 'keys' | 'values' | 'output'
>

async function attentionTable(quick: boolean): Promise<Table> {
  const small = { heads: 8, kvHeads: 8, headDim: 32 }
  const large = { heads: 32, kvHeads: 8, headDim: 64 }
  const all: Sizes[] = quick
    ? [
        { sequences: 2, length: 16, position: 0, ...small },
        { sequences: 2, length: 1, position: 15, ...small },
      ]
    : [
        { sequences: 8, length: 256, position: 0, ...small },
        { sequences: 1, length: 2048, position: 0, ...large },
        { sequences: 1, length: 64, position: 1984, ...large },
        { sequences: 1, length: 1, position: 2047, ...large },
        { sequences: 64, length: 1, position: 127, ...large },
      ]
  const rows: Row[] = []
  for (const sizes of all) rows.push(...(await timeAttention(sizes, quick)))
  return {
    id: 'attention',
    title: 'Attention',
    note:
      'Causal attention over all positions, scores and mix of values: operations are those of the positions that a query ' +
      'sees. `at`: positions before the first query, whose keys and values are there already.',
    columns: [
      { key: 'sequences', label: 'sequences', decimals: 0 },
      { key: 'length', label: 'queries', decimals: 0 },
      { key: 'position', label: 'at', decimals: 0 },
      { key: 'heads', label: 'heads' },
      { key: 'threads', label: 'threads', decimals: 0 },
      { key: 'milliseconds', label: 'ms', digits: 3 },
      { key: 'spread', label: 'spread %', decimals: 0 },
      { key: 'gflops', label: 'GFLOP/s', digits: 3 },
    ],
    rows,
    keys: ['sequences', 'length', 'position', 'heads', 'threads'],
    compared: 'gflops',
  }
}

async function timeAttention(sizes: Sizes, quick: boolean): Promise<Row[]> {
  const { sequences, length, position, heads, kvHeads, headDim } = sizes
  const capacity = position + length
  const tokens = sequences * length * heads * headDim
  const cached = sequences * capacity * kvHeads * headDim
  const pairs = sequences * heads * length * (position + (length + 1) / 2)
  return withArrays([tokens, cached, cached, tokens], async ([queries, keys, values, output]) => {
    const shape = { ...sizes, capacity, scale: headDim ** -0.5, softCap: undefined, window: undefined }
    const timings = await timeThreads(quick, (kernels) =>
      kernels.attend({ ...shape, queries, keys, values, output }),
    )
    return timings.map((timing) => ({
      ...{ sequences, length, position, heads: `${heads} (${kvHeads}) x ${headDim}` },
      ...timing.row,
      gflops: (4e-9 * pairs * headDim) / timing.seconds,
    }))
  })
}

const COPY = 'copy'

async function fewRowsTable(quick: boolean): Promise<Table> {
  const shapes = quick
    ? [[64, 64]]
    : [
        [2048, 2048],
        [8192, 2048],
        [32000, 2048],
      ]
  const counts = quick ? [1, 3] : [1, 2, 4, 8, 16, 32]
  const rows: Row[] = []
  for (const [n, k] of shapes) {
    await withArrays([n * k], async ([weight]) => {
      const target = new Float32Array(n * k)
      const copy = await timeTogether(
        [{ name: COPY, run: () => target.set(weight) }],
        quick ? hasty : thorough,
      )
      const timing = copy.get(COPY)!
      const rate = (seconds: number) => (4e-9 * n * k) / seconds
      const shared = { weight: `${n} x ${k}` }
      rows.push({
        ...{ ...shared, rows: COPY, threads: 1, milliseconds: 1e3 * timing.seconds },
        ...{ spread: spreadOf(timing), rate: rate(timing.seconds), toCopy: 1 },
      })
      for (const m of counts) {
        await withArrays([m * k, m * n], async ([x, y]) => {
          const timings = await timeThreads(quick, (kernels) =>
            kernels.gemm('ABt', m, n, k, 1, wholeBlock(x, k), wholeBlock(weight, k), 0, wholeBlock(y, n)),
          )
          for (const { row, seconds } of timings) {
            const toCopy = timing.seconds / seconds
            rows.push({ ...shared, rows: String(m), ...row, rate: rate(seconds), toCopy })
          }
        })
      }
    })
  }
  return {
    id: 'few-rows',
    title: 'Products of few rows with a weight',
    note:
      '`X W^T` where all three are in the memory of the kernels, as for tokens that are written one by one. GB/s: bytes ' +
      'of the weight per second. `copy`: the weight is copied to an ordinary array.',
    columns: [
      { key: 'weight', label: 'weight' },
      { key: 'rows', label: 'rows' },
      { key: 'threads', label: 'threads', decimals: 0 },
      { key: 'milliseconds', label: 'ms', digits: 3 },
      { key: 'spread', label: 'spread %', decimals: 0 },
      { key: 'rate', label: 'GB/s', digits: 3 },
      { key: 'toCopy', label: 'times a copy', digits: 3 },
    ],
    rows,
    keys: ['weight', 'rows', 'threads'],
    compared: 'rate',
  }
}

interface Operation {
  readonly name: string
  readonly run: (kernels: ForwardKernels, x: Float32Array, up: Float32Array, y: Float32Array) => void
}

async function betweenTable(quick: boolean): Promise<Table> {
  const [tokens, cols, headDim] = quick ? [16, 64, 16] : [1024, 2048, 64]
  const scale = new Float32Array(cols).fill(0.5)
  const angles = normals(tokens * headDim, 9)
  const [cos, sin] = [angles.map(Math.cos), angles.map(Math.sin)]
  const norm = { runs: tokens, size: cols, epsilon: 1e-5, scale }
  const turning = { sequences: 1, length: tokens, position: 0, heads: cols / headDim, headDim, dims: headDim }
  const operations: Operation[] = [
    {
      name: 'RMS norm',
      run: (of, x, _, y) => of.normalize({ ...norm, kind: 'rms', shift: undefined, x, y }),
    },
    {
      name: 'layer norm',
      run: (of, x, _, y) => of.normalize({ ...norm, kind: 'layer', shift: scale, x, y }),
    },
    { name: 'rotary turns', run: (of, x, _, y) => of.rotate({ ...turning, cos, sin, x, y }) },
    ...(['silu', 'gelu', 'gelu-tanh', 'relu'] as const).map((activation): Operation => {
      return { name: `gate by ${activation}`, run: (of, x, up, y) => of.gate(activation, x, up, y) }
    }),
    { name: 'soft cap', run: (of, x, _, y) => of.softCap(x, 30, y) },
    { name: 'sum', run: (of, x, up, y) => of.add(x, up, 1, y) },
  ]
  const values = tokens * cols
  const rows: Row[] = []
  await withArrays([values, values, values], async ([x, up, y]) => {
    for (const { name, run } of operations) {
      const timings = await timeThreads(quick, (kernels) => run(kernels, x, up, y))
      for (const { row, seconds } of timings)
        rows.push({ operation: name, ...row, rate: (1e-6 * values) / seconds })
    }
  })
  return {
    id: 'between-products',
    title: 'What comes between products',
    note: `${tokens} tokens of ${cols} values.`,
    columns: [
      { key: 'operation', label: 'operation' },
      { key: 'threads', label: 'threads', decimals: 0 },
      { key: 'milliseconds', label: 'ms', digits: 3 },
      { key: 'spread', label: 'spread %', decimals: 0 },
      { key: 'rate', label: 'million values/s', digits: 3 },
    ],
    rows,
    keys: ['operation', 'threads'],
    compared: 'rate',
  }
}

/** The same work on each count of threads. */
async function timeThreads(quick: boolean, run: (kernels: ForwardKernels) => void) {
  const contenders = threadCounts.map((threads): Contender & { threads: number } => ({
    name: String(threads),
    threads,
    run() {
      setThreads(threads)
      run(forwardKernels())
    },
  }))
  const timings = await timeTogether(contenders, quick ? hasty : thorough)
  return contenders.map(({ name, threads }) => {
    const timing = timings.get(name)!
    const row = { threads, milliseconds: 1e3 * timing.seconds, spread: spreadOf(timing) }
    return { row, seconds: timing.seconds }
  })
}

/** Runs `use` with arrays of normal numbers in the kernels' memory, given back at the end. */
async function withArrays<T>(
  lengths: readonly number[],
  use: (arrays: readonly Float32Array[]) => Promise<T>,
): Promise<T> {
  const kernels = forwardKernels()
  const arrays = lengths.map((length, i) => {
    const array = kernels.allocate(length)
    array.set(normals(length, i))
    return array
  })
  try {
    return await use(arrays)
  } finally {
    for (const array of arrays) kernels.release(array)
  }
}

function normals(length: number, seed: number): Float32Array {
  const random = randomGenerator(seed)
  return Float32Array.from({ length }, () => randomNormal(random))
}
