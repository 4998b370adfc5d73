/**
 * Trains the constant codebooks of trellis codes on a Gaussian source and writes src/codebook/constant-tables.ts and
 * docs/gaussian-1.json. A released table never changes: other tables need another name.
 *
 *   npx tsx scripts/train-trellis.ts [dimensions, default 1,2,4; none] [columns a round, default 2048] [rounds, default 60]
 *
 * Generalised Lloyd: columns of 256 vectors of unit variance are coded with 2 bits a value, and every centroid moves to
 * the mean of what it stands for, over this round and, with less and less weight, those before. The table doubles stage
 * by stage, from the plain codebook on; the half that there was stays as it is. Then, for indices of every width: what the
 * largest table is best multiplied by, to seven bits behind the point, and the error it leaves of variance 1.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { MOST_KEY_BITS } from '../src/codebook/constant-codebook.js'
import { deriveSeed, randomGenerator, randomNormal } from '../src/common/random.js'
import { kernels } from '../src/kernels/kernels.js'

const BITS = 2
const ROWS = 256
const COLUMNS_AT_ONCE = 64

const [dimensions = '1,2,4', columns = '2048', rounds = '60'] = process.argv.slice(2)
const json = new URL('../docs/gaussian-1.json', import.meta.url)
const source = new URL('../src/codebook/constant-tables.ts', import.meta.url)

const stored: Record<string, { elements: string }> = JSON.parse(await readFile(json, 'utf8'))
const tables = Object.fromEntries(Object.entries(stored).map(([d, { elements }]) => [d, elements]))
const units = unitsOf(await readFile(source, 'utf8'))
for (const d of dimensions === 'none' ? [] : dimensions.split(',').map(Number)) {
  const table = train(d, Number(columns), Number(rounds))
  const largest = table.reduce((a, b) => Math.max(a, Math.abs(b)), 0)
  units[d] = largest / 127
  tables[d] = Buffer.from(Int8Array.from(table, (value) => Math.round(value / units[d]))).toString('base64')
}
const widths = Object.fromEntries(Object.keys(tables).map((d) => [d, fitWidths(Number(d))]))
const published = Object.entries(tables).map(([d, elements]) => {
  return [d, { elements, factors: widths[d].map(({ factor }) => factor) }] as const
})
await writeFile(json, `${JSON.stringify(Object.fromEntries(published), null, 2)}\n`)
await writeFile(source, moduleOf(tables, units, widths))

function train(d: number, columnsOfStage: number, roundsOfStage: number): Float32Array {
  const indexBits = BITS * d
  let table = new Float32Array(0)
  for (let stateBits = indexBits; stateBits <= MOST_KEY_BITS; stateBits++) {
    const random = randomGenerator(deriveSeed(d, stateBits))
    const fixed = table.length / d
    const next = Float32Array.from({ length: 2 ** stateBits * d }, () => randomNormal(random))
    next.set(table)
    table = next
    const counts = new Float64Array(2 ** stateBits)
    const sums = new Float64Array(table.length)
    for (let round = 0; round < roundsOfStage; round++) {
      const memory = round < roundsOfStage / 2 ? 0.7 : 0.92
      for (let i = 0; i < counts.length; i++) counts[i] *= memory
      for (let i = 0; i < sums.length; i++) sums[i] *= memory
      let loss = 0
      for (let done = 0; done < columnsOfStage; done += COLUMNS_AT_ONCE) {
        loss += codeColumns(d, indexBits, stateBits, table, random, counts, sums)
      }
      for (let key = fixed; key < counts.length; key++) {
        if (counts[key] < 0.5) continue
        for (let a = 0; a < d; a++) table[key * d + a] = sums[key * d + a] / counts[key]
      }
      if (round === roundsOfStage - 1) {
        const count = Math.ceil(columnsOfStage / COLUMNS_AT_ONCE) * COLUMNS_AT_ONCE * ROWS * d
        console.log(`${d}-D, 2^${stateBits} centroids: mean squared error ${(loss / count).toFixed(5)}`)
      }
    }
  }
  return table
}

interface WidthFit {
  readonly factor: number
  readonly error: number
}

/** Tries factors one after the other from below: the error has one least value. */
function fitWidths(d: number): WidthFit[] {
  const elements = Int8Array.from(Buffer.from(tables[d], 'base64'))
  return Array.from({ length: MOST_KEY_BITS }, (_, i) => {
    let best: WidthFit = { factor: 0, error: Number.POSITIVE_INFINITY }
    for (let factor = 0.25; ; factor += 1 / 128) {
      const error = errorOf(d, i + 1, elements, factor)
      if (error >= best.error) break
      best = { factor, error }
    }
    console.log(
      `${d}-D, indices of ${i + 1} bits: factor ${best.factor}, mean squared error ${best.error.toFixed(5)}`,
    )
    return best
  })
}

function errorOf(d: number, width: number, elements: Int8Array, factor: number): number {
  const table = Float32Array.from(elements, (element) => element * units[d] * factor)
  const random = randomGenerator(deriveSeed(d, 100))
  const none = new Float64Array(table.length)
  const loss = codeColumns(d, width, MOST_KEY_BITS, table, random, none, none)
  return loss / (COLUMNS_AT_ONCE * ROWS * d)
}

/** Codes some columns and adds up what each centroid stands for; returns the loss. */
function codeColumns(
  vectorDim: number,
  indexBits: number,
  stateBits: number,
  centroids: Float32Array,
  random: () => number,
  counts: Float64Array,
  sums: Float64Array,
): number {
  const metric = Float64Array.from({ length: vectorDim ** 2 }, (_, i) => Number(i % (vectorDim + 1) === 0))
  const tasks = Array.from({ length: COLUMNS_AT_ONCE }, () => ({
    ...{ rows: ROWS, rowsPerStart: 0, vectorDim, indexBits, stateBits, metric, centroids },
    targets: {
      data: Float32Array.from({ length: ROWS * vectorDim }, () => randomNormal(random)),
      offset: 0,
      stride: vectorDim,
    },
    ...{ keys: new Uint16Array(ROWS), keyOffset: 0, keyStride: 1 },
  }))
  const losses = kernels().searchTrellis(tasks)
  for (const { keys, targets } of tasks) {
    for (const [row, key] of keys.entries()) {
      counts[key]++
      for (let a = 0; a < vectorDim; a++) sums[key * vectorDim + a] += targets.data[row * vectorDim + a]
    }
  }
  return losses.reduce((a, b) => a + b, 0)
}

function unitsOf(module: string): Record<string, number> {
  const [, list] = /CODEBOOK_UNITS[^{]*{([^}]*)}/.exec(module) ?? []
  return Object.fromEntries(
    [...(list ?? '').matchAll(/(\d): ([\d.]+)/g)].map(([, d, unit]) => [d, Number(unit)]),
  )
}

function moduleOf(
  tables: Record<string, string>,
  units: Record<string, number>,
  widths: Record<string, WidthFit[]>,
): string {
  const lines = Object.entries(tables).map(([d, table]) => `  ${d}:\n    '${table}',\n`)
  const rows = (text: (fit: WidthFit) => string) =>
    Object.entries(widths)
      .map(([d, fits]) => `  ${d}: [${fits.map(text).join(', ')}],\n`)
      .join('')
  const stated = Object.entries(units).map(([d, unit]) => `${d}: ${unit.toFixed(6)}`)
  return (
    '/** The constant codebooks, made by scripts/train-trellis.ts: int8 elements in base64, by the dimensions of their vectors. */\n' +
    `export const codebookTables: Readonly<Record<number, string>> = {\n${lines.join('')}}\n\n` +
    '/** What an element stands for, where the source has a spread of 1. */\n' +
    `export const CODEBOOK_UNITS: Readonly<Record<number, number>> = { ${stated.join(', ')} }\n\n` +
    '/** What the elements are multiplied by where indices have 1, 2, ... bits. */\n' +
    `export const WIDTH_FACTORS: Readonly<Record<number, readonly number[]>> = {\n${rows(({ factor }) => String(factor))}}\n\n` +
    '/** The share of the variance of a normal source that is then lost. */\n' +
    `export const WIDTH_ERRORS: Readonly<Record<number, readonly number[]>> = {\n${rows(({ error }) => error.toPrecision(4))}}\n`
  )
}
