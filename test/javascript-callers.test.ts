import { describe, expect, it } from 'vitest'
import * as exports from '../src/export.js'
import * as generators from '../src/generate.js'
import * as layers from '../src/index.js'
import * as models from '../src/model.js'
import * as reports from '../src/report.js'
import * as trainings from '../src/train.js'

type Entry = Readonly<Record<string, unknown>>

/** What callers whom no compiler tells hand in. */
const garbage: readonly unknown[] = [
  undefined,
  null,
  5,
  Number.NaN,
  'text',
  true,
  [],
  [1, 2, 3],
  {},
  { bits: 2 },
  Float32Array.of(1, 2, 3, 4),
  { rows: 2, cols: 2, data: [1, 2, 3, 4] },
  { rows: 2, cols: 3, data: Float32Array.of(1, 2, 3, 4) },
  { rows: 2 ** 40, cols: 2 ** 12, data: new Float32Array(0) },
  layers.matrix(4, 4),
  () => 1,
  Symbol('s'),
  10n,
]

/** What changes the whole process, or does arithmetic on single numbers and arrays in hot loops. */
const apart = new Set([
  ...['setThreads', 'startEngine', 'startProducts', 'startServer', 'startWorker'],
  ...['floatToHalf', 'halfToFloat', 'floatToBfloat', 'bfloatToFloat'],
  ...['encodeHalves', 'decodeHalves', 'encodeBfloats', 'decodeBfloats'],
])

const entry: Entry = { ...layers, ...models, ...exports, ...generators, ...reports, ...trainings }

/** All public functions but those; classes have tests of their own. */
const checked = Object.keys(entry).filter(
  (name) => typeof entry[name] === 'function' && !/^[A-Z]/.test(name) && !apart.has(name),
)

async function failureOf(call: () => unknown): Promise<unknown> {
  try {
    await call()
    return undefined
  } catch (error) {
    return error
  }
}

describe('called with anything', () => {
  it.each(checked)('%s throws typed errors that say something', async (name) => {
    const call = entry[name] as (...args: unknown[]) => unknown
    const raw: string[] = []
    for (const first of garbage) {
      for (const second of garbage) {
        for (const third of [undefined, null, 5, {}]) {
          const error = await failureOf(() => call(first, second, third))
          if (error === undefined || error instanceof layers.GptvqError) continue
          raw.push(
            `${describeArgument(first)}, ${describeArgument(second)}, ${describeArgument(third)}: ${error}`,
          )
        }
      }
    }
    expect(raw.slice(0, 5)).toEqual([])
  })
})

describe('classes', () => {
  it('HessianAccumulator says what it was given', () => {
    for (const width of [undefined, null, 'x', 0, -1, 1.5, 2 ** 33, 100_000_000]) {
      expect(() => new layers.HessianAccumulator(width as number)).toThrow(layers.GptvqError)
    }
    const inputs = new layers.HessianAccumulator(4)
    for (const given of garbage) {
      if (given !== garbage[14]) expect(() => inputs.add(given as layers.Matrix)).toThrow(layers.GptvqError)
      expect(() => inputs.addGram(given as layers.Matrix, 0)).toThrow(layers.GptvqError)
    }
  })

  it('a matrix larger than memory is refused by its size', () => {
    expect(() => layers.matrix(1, 2 ** 33)).toThrow(/1 x 8589934592 float32 values, 32\.0 GiB/)
    expect(() => new layers.HessianAccumulator(100_000)).not.toThrow(TypeError)
  })

  it('a plain array where a matrix is expected is told how to make one', async () => {
    const hessian = layers.matrix(4, 4)
    const call = layers.quantizeLayer(Float32Array.of(1) as unknown as layers.Matrix, hessian)
    await expect(call).rejects.toThrow(
      /weight: expected a matrix .* got a Float32Array of 1.*matrix\(rows, cols/,
    )
  })
})

function describeArgument(value: unknown): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)
}
