/**
 * What a trellis would lose whose centroids are sums of entries of tables of 16, which a byte shuffle looks up, in the
 * place of one full table: relative squared error of independent normal pairs in a metric without inputs, 4 bits an index.
 * Tables are fitted to one sample by least squares, errors are those of another.
 *
 *     npx tsx benchmarks/layers/additive-trellis.ts [--rows 256] [--columns 192] [--rounds 24] [--seeds 3]
 */
import { parseArgs } from 'node:util'
import { constantCodebook, constantUnit, widthFactor } from '../../src/codebook/constant-codebook.js'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { kernels } from '../../src/kernels/kernels.js'

const [DIM, WIDTH] = [2, 4]
const ENTRIES = 2 ** WIDTH

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '256' },
    columns: { type: 'string', default: '192' },
    rounds: { type: 'string', default: '24' },
    seeds: { type: 'string', default: '3' },
  },
})
const [rows, columns, rounds, seeds] = [values.rows, values.columns, values.rounds, values.seeds].map(Number)
const fittedTo = normalPairs(1)
const heldOut = normalPairs(2)

console.log('| centroids | tables | entries in all | error | to the full 2^12 |')
console.log('| ---: | --- | ---: | ---: | ---: |')
const best = code(full(12), 12, heldOut).error
for (const keyBits of [4, 6, 8, 10, 12]) line(keyBits, 'one, full', 2 ** keyBits, full(keyBits))
for (const tables of [2, 3]) {
  const fits = Array.from({ length: seeds }, (_, seed) => fitted(tables, seed))
  const [chosen] = fits.sort((a, b) => a.error - b.error)
  line(WIDTH * tables, `${tables} of ${ENTRIES}, summed`, ENTRIES * tables, sums(chosen.entries))
}

function line(keyBits: number, tables: string, entries: number, centroids: Float32Array): void {
  const { error } = code(centroids, keyBits, heldOut)
  console.log(
    `| 2^${keyBits} | ${tables} | ${entries} | ${error.toFixed(4)} | ${(error / best).toFixed(3)} |`,
  )
}

function full(keyBits: number): Float32Array {
  const unit = constantUnit(DIM) * widthFactor(DIM, WIDTH)
  return Float32Array.from(constantCodebook(DIM, 2 ** keyBits), (element) => element * unit)
}

/** Tables, one after the other, from random ones: coded and solved for in turns. */
function fitted(tables: number, seed: number): { entries: Float64Array; error: number } {
  const random = randomGenerator(seed)
  const size = 0.8 / Math.sqrt(tables)
  let entries = Float64Array.from({ length: tables * ENTRIES * DIM }, () => size * randomNormal(random))
  let error = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds; round++) {
    const coded = code(sums(entries), WIDTH * tables, fittedTo)
    error = coded.error
    entries = leastSquares(coded.keys, tables, entries)
  }
  return { entries, error }
}

/** Of each key the sum of the entries that its digits pick, the lowest digit from the first table. */
function sums(entries: Float64Array): Float32Array {
  const tables = entries.length / (ENTRIES * DIM)
  return Float32Array.from({ length: ENTRIES ** tables * DIM }, (_, at) => {
    const key = Math.floor(at / DIM)
    let sum = 0
    for (let table = 0; table < tables; table++) {
      sum += entries[entryOf(key, table) * DIM + (at % DIM)]
    }
    return sum
  })
}

function entryOf(key: number, table: number): number {
  return table * ENTRIES + ((key >> (WIDTH * table)) & (ENTRIES - 1))
}

/** Gauss-Seidel on the normal equations of all entries, from those of before: each moves to the mean of what it misses. */
function leastSquares(keys: readonly Uint16Array[], tables: number, before: Float64Array): Float64Array {
  const entries = before.slice()
  for (let sweep = 0; sweep < 4; sweep++) {
    for (let table = 0; table < tables; table++) {
      const counts = new Float64Array(ENTRIES)
      const misses = new Float64Array(ENTRIES * DIM)
      for (const [column, columnKeys] of keys.entries()) {
        for (const [row, key] of columnKeys.entries()) {
          const digit = entryOf(key, table) - table * ENTRIES
          counts[digit]++
          for (let a = 0; a < DIM; a++) {
            let miss = fittedTo[column][row * DIM + a]
            for (let t = 0; t < tables; t++) miss -= entries[entryOf(key, t) * DIM + a]
            misses[digit * DIM + a] += miss
          }
        }
      }
      for (const [i, miss] of misses.entries()) {
        entries[table * ENTRIES * DIM + i] += miss / Math.max(1, counts[Math.floor(i / DIM)])
      }
    }
  }
  return entries
}

function code(table: Float32Array, keyBits: number, targets: readonly Float32Array[]) {
  const tasks = targets.map((data) => ({
    ...{ rows, rowsPerStart: 256, vectorDim: DIM, indexBits: WIDTH, stateBits: keyBits, centroids: table },
    metric: Float64Array.of(1, 0, 0, 1),
    targets: { data, offset: 0, stride: DIM },
    ...{ keys: new Uint16Array(rows), keyOffset: 0, keyStride: 1 },
  }))
  const loss = kernels()
    .searchTrellis(tasks)
    .reduce((a, b) => a + b, 0)
  let energy = 0
  for (const data of targets) for (const value of data) energy += value * value
  return { error: loss / energy, keys: tasks.map(({ keys }) => keys) }
}

function normalPairs(seed: number): Float32Array[] {
  const random = randomGenerator(seed)
  return Array.from({ length: columns }, () =>
    Float32Array.from({ length: rows * DIM }, () => randomNormal(random)),
  )
}
