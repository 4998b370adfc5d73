/**
 * What a trellis codebook fitted to a model's weights would gain over the constant one, and what it would cost: the
 * relative squared error of weights over the root mean squares of their blocks, by one table for the whole model and by
 * one for each layer. Columns that are measured are not those that tables are fitted to.
 *
 *     npx tsx benchmarks/layers/fitted-trellis.ts MODEL [--layers 12] [--columns 64] [--rounds 12]
 */
import { parseArgs } from 'node:util'
import { prepareRun } from '../../src/pipeline/quantize/prepare-run.js'
import { codeColumns, constantTable, DIM } from './constant-trellis.js'

const BLOCK = 64
const KEY_BITS = [6, 8, 10, 12]
/** Vectors that speak for the constant centroid: without them few vectors would tear it away. */
const PRIOR = 4

/** Of each column of vectors rows x 2. */
type Columns = readonly Float32Array[]

interface LayerColumns {
  readonly name: string
  readonly weights: number
  readonly fitted: Columns
  readonly heldOut: Columns
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    layers: { type: 'string', default: '12' },
    columns: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '12' },
  },
})
const rounds = Number(values.rounds)
const layers = await readLayers(positionals[0], Number(values.layers), Number(values.columns))
console.log(
  '| centroids | constant | one for the model | its gain in bits | one a layer | its gain | its cost |',
)
console.log('| ---: | ---: | ---: | ---: | ---: | ---: | ---: |')
for (const keyBits of KEY_BITS) console.log(rowOf(keyBits))

function rowOf(keyBits: number): string {
  const constant = constantTable(keyBits)
  const shared = fitTable(
    constant,
    keyBits,
    layers.map(({ fitted }) => fitted),
  )
  const own = layers.map(({ fitted }) => fitTable(constant, keyBits, [fitted]))
  const weights = layers.reduce((sum, layer) => sum + layer.weights, 0)
  const mean = (table: (i: number) => Float32Array) =>
    layers.reduce(
      (sum, layer, i) =>
        sum + (layer.weights / weights) * codeColumns(table(i), keyBits, layer.heldOut).error,
      0,
    )
  const [before, all, each] = [mean(() => constant), mean(() => shared), mean((i) => own[i])]
  const cost = (layers.length * 8 * DIM * 2 ** keyBits) / weights
  // at high rates a bit takes three quarters of the error
  const gain = (error: number) => Math.log(before / error) / Math.log(4)
  const cells = [
    before.toFixed(4),
    all.toFixed(4),
    gain(all).toFixed(4),
    each.toFixed(4),
    gain(each).toFixed(4),
  ]
  return `| 2^${keyBits} | ${[...cells, cost.toFixed(4)].join(' | ')} |`
}

/** Generalised Lloyd: every centroid moves to the mean of what it stands for; those of little use move a part of the way. */
function fitTable(start: Float32Array, keyBits: number, parts: readonly Columns[]): Float32Array {
  const table = start.slice()
  for (let round = 0; round < rounds; round++) {
    const coded = parts.map((columns) => usesOf(table, keyBits, columns))
    for (let key = 0; key < 2 ** keyBits; key++) {
      const count = coded.reduce((sum, { counts }) => sum + counts[key], 0)
      for (let a = 0; a < DIM; a++) {
        const at = key * DIM + a
        const sum = coded.reduce((total, { sums }) => total + sums[at], 0)
        table[at] = (sum + PRIOR * start[at]) / (count + PRIOR)
      }
    }
  }
  return table
}

/** How often each key is used, and the sums of what it stands for. */
function usesOf(table: Float32Array, keyBits: number, columns: Columns) {
  const counts = new Float64Array(2 ** keyBits)
  const sums = new Float64Array(table.length)
  for (const [column, keys] of codeColumns(table, keyBits, columns).keys.entries()) {
    for (const [row, key] of keys.entries()) {
      counts[key]++
      for (let a = 0; a < DIM; a++) sums[key * DIM + a] += columns[column][row * DIM + a]
    }
  }
  return { counts, sums }
}

async function readLayers(model: string, most: number, columns: number): Promise<LayerColumns[]> {
  const { checkpoint, weights, plan } = await prepareRun({ model })
  const { linears } = plan
  const step = Math.max(1, linears.length / most)
  const chosen = Array.from(
    { length: Math.min(most, linears.length) },
    (_, i) => linears[Math.floor(i * step)],
  )
  const layers: LayerColumns[] = []
  for (const { name, rows, cols } of chosen) {
    const values = scaled(await weights.floats(name), cols)
    const vectors = cols / DIM
    const every = (first: number) => {
      const count = Math.min(columns, vectors >> 1)
      return Array.from({ length: count }, (_, i) =>
        column(values, rows, cols, first + 2 * Math.floor((i * (vectors >> 1)) / count)),
      )
    }
    layers.push({ name, weights: rows * cols, fitted: every(0), heldOut: every(1) })
  }
  await checkpoint.close()
  return layers
}

/** Weights over the root mean square of their block of a row. */
function scaled(values: Float32Array, cols: number): Float32Array {
  const result = values.slice()
  for (let first = 0; first < values.length; ) {
    const end = Math.min(first + BLOCK, first - (first % cols) + cols)
    let squares = 0
    for (let i = first; i < end; i++) squares += values[i] ** 2
    const size = Math.sqrt(squares / (end - first)) || 1
    for (let i = first; i < end; i++) result[i] /= size
    first = end
  }
  return result
}

function column(values: Float32Array, rows: number, cols: number, vector: number): Float32Array {
  const result = new Float32Array(rows * DIM)
  for (let row = 0; row < rows; row++) {
    for (let a = 0; a < DIM; a++) result[row * DIM + a] = values[row * cols + vector * DIM + a]
  }
  return result
}
