/**
 * What a trellis would lose whose centroids are sums of entries of tables of 16, which a byte shuffle looks up, in the
 * place of one full table: relative squared error of independent normal pairs in a metric without inputs, 4 bits an index.
 * Tables are fitted to one sample by least squares, errors are those of another.
 *
 *     npx tsx benchmarks/layers/additive-trellis.ts [--rows 256] [--columns 192] [--rounds 24] [--seeds 3]
 */
import { parseArgs } from 'node:util'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { codeColumns, constantTable, DIM, WIDTH } from './constant-trellis.js'

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
const { error: best } = codeColumns(constantTable(12), 12, heldOut)
for (const keyBits of [4, 6, 8, 10, 12]) line(keyBits, 'one, full', 2 ** keyBits, constantTable(keyBits))
for (const tables of [2, 3]) {
  const fits = Array.from({ length: seeds }, (_, seed) => fitted(tables, seed))
  const [chosen] = fits.sort((a, b) => a.error - b.error)
  line(WIDTH * tables, `${tables} of ${ENTRIES}, summed`, ENTRIES * tables, sums(chosen.entries))
}

function line(keyBits: number, tables: string, entries: number, centroids: Float32Array): void {
  const { error } = codeColumns(centroids, keyBits, heldOut)
  console.log(
    `| 2^${keyBits} | ${tables} | ${entries} | ${error.toFixed(4)} | ${(error / best).toFixed(3)} |`,
  )
}

/** Tables, one after the other, from random ones: coded and solved for in turns. */
function fitted(tables: number, seed: number): { entries: Float64Array; error: number } {
  const random = randomGenerator(seed)
  const size = 0.8 / Math.sqrt(tables)
  let entries: Float64Array = Float64Array.from(
    { length: tables * ENTRIES * DIM },
    () => size * randomNormal(random),
  )
  let error = Number.POSITIVE_INFINITY
  for (let round = 0; round < rounds; round++) {
    const coded = codeColumns(sums(entries), WIDTH * tables, fittedTo)
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

/** Gauss-Seidel on the normal equations of all entries, from those of before: a table after the other, in sweeps. */
function leastSquares(keys: readonly Uint16Array[], tables: number, before: Float64Array): Float64Array {
  const entries = before.slice()
  for (let sweep = 0; sweep < 4; sweep++) {
    for (let table = 0; table < tables; table++) moveTable(keys, table, entries)
  }
  return entries
}

/** Every entry of a table moves by the mean of what the vectors that pick it miss. */
function moveTable(keys: readonly Uint16Array[], table: number, entries: Float64Array): void {
  const centroids = sums(entries)
  const counts = new Float64Array(ENTRIES)
  const misses = new Float64Array(ENTRIES * DIM)
  for (const [column, columnKeys] of keys.entries()) {
    for (const [row, key] of columnKeys.entries()) {
      const digit = entryOf(key, table) - table * ENTRIES
      counts[digit]++
      for (let a = 0; a < DIM; a++) {
        misses[digit * DIM + a] += fittedTo[column][row * DIM + a] - centroids[key * DIM + a]
      }
    }
  }
  for (const [i, miss] of misses.entries()) {
    entries[table * ENTRIES * DIM + i] += miss / Math.max(1, counts[Math.floor(i / DIM)])
  }
}

function normalPairs(seed: number): Float32Array[] {
  const random = randomGenerator(seed)
  return Array.from({ length: columns }, () =>
    Float32Array.from({ length: rows * DIM }, () => randomNormal(random)),
  )
}
