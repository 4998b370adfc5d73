import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  dequantizeScalar,
  HessianAccumulator,
  halfToFloat,
  type Matrix,
  matrix,
  quantizeGptq,
  quantizeRtn,
  reconstructionError,
  type ScalarLayer,
  type ScalarOptions,
} from '../../src/index.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'

interface Golden {
  readonly weight: number[][]
  readonly inputs: number[][]
  readonly sequentialMse: readonly Case[]
  readonly inBlocks: readonly Case[]
}

interface Case {
  readonly bits: number
  readonly symmetric: boolean
  /** Weights of a row that share a scale, 0: all. */
  readonly block: number
  readonly scale: number[]
  readonly zero: number[]
  readonly quantized: number[]
}

/** Written by scripts/oracle/aimet.py. */
const golden: Golden = JSON.parse(readFileSync(new URL('./aimet.json', import.meta.url), 'utf8'))

const over4096 = (rows: number[][]) =>
  matrix(
    rows.length,
    rows[0].length,
    Float32Array.from(rows.flat(), (value) => value / 4096),
  )

const hessianOf = (inputs: Matrix) => {
  const sum = new HessianAccumulator(inputs.cols)
  sum.add(inputs)
  return sum.hessian()
}

const scalesOf = ({ scales }: ScalarLayer) => Array.from(scales, halfToFloat)

function expectSame(layer: ScalarLayer, { scale, zero, quantized }: Case): void {
  for (const [i, found] of scalesOf(layer).entries()) {
    expect(Math.abs(found / scale[i] - 1)).toBeLessThan(2 ** -10)
  }
  expect(Array.from(layer.zeros)).toEqual(zero)
  for (const [i, value] of dequantizeScalar(layer).data.entries()) {
    expect(Math.abs(value - quantized[i])).toBeLessThan(2 ** -10 * Math.abs(quantized[i]) + 1e-6)
  }
}

/** The grids that a search tries, by their definition: shares of the one that spans the weights. */
function candidatesOf(values: readonly number[], bits: number, count = 20): [scale: number, zero: number][] {
  return Array.from({ length: count }, (_, i) => {
    const single: ScalarOptions = { bits, granularity: 'tensor' }
    const ends = [Math.min(0, ...values), Math.max(0, ...values)].map((end) => (end * (i + 1)) / count)
    const layer = quantizeRtn(matrix(1, 2, Float32Array.from(ends)), single)
    return [halfToFloat(layer.scales[0]), layer.zeros[0]]
  })
}

const onGrid = (value: number, [scale, zero]: [number, number], bits: number) =>
  (Math.max(0, Math.min(2 ** bits - 1, Math.round(value / scale) + zero)) - zero) * scale

describe('the search for scales', () => {
  const weight = over4096(golden.weight)
  const inputs = over4096(golden.inputs)

  it.each(golden.sequentialMse)('finds the scales of AIMET: $bits bits, symmetric $symmetric', (wanted) => {
    const grid = wanted.symmetric ? 'symmetric' : 'asymmetric'
    const options = {
      bits: wanted.bits,
      grid,
      granularity: 'channel',
      scaleSearch: 'sequential-mse',
    } as const
    expectSame(quantizeRtn(weight, { ...options, hessian: hessianOf(inputs) }), wanted)
  })

  // AIMET weighs each block alone; here a group is chosen in view of the others, which is the same where no token has both
  it.each(golden.inBlocks)(
    'and by blocks that no token shares: $bits bits, symmetric $symmetric',
    (wanted) => {
      const { bits, block } = wanted
      const grid = wanted.symmetric ? 'symmetric' : 'asymmetric'
      const apart = matrix(inputs.rows, inputs.cols, inputs.data.slice())
      for (let i = 0; i < apart.data.length; i++) {
        const [token, column] = [Math.floor(i / apart.cols), i % apart.cols]
        if (Math.floor(column / block) !== token % (apart.cols / block)) apart.data[i] = 0
      }
      const options = { bits, grid, groupSize: block, scaleSearch: 'sequential-mse' } as const
      expectSame(quantizeRtn(weight, { ...options, hessian: hessianOf(apart) }), wanted)
    },
  )

  it.each(['mse', 'sequential-mse'] as const)(
    '%s takes the best of all candidates, by brute force',
    (scaleSearch) => {
      const [rows, cols, bits] = [5, 20, 3]
      const weights = gaussianMatrix(rows, cols, 21)
      const hessian = scaleSearch === 'mse' ? identity(cols) : randomHessian(cols, 60, 22)
      const given = scaleSearch === 'mse' ? {} : { hessian }
      const layer = quantizeRtn(weights, { bits, granularity: 'channel', scaleSearch, ...given })
      const values = dequantizeScalar(layer).data
      for (let r = 0; r < rows; r++) {
        const row = Array.from(weights.data.subarray(r * cols, (r + 1) * cols))
        const losses = candidatesOf(row, bits).map((grid) =>
          energy(
            row.map((value) => onGrid(value, grid, bits) - value),
            hessian,
          ),
        )
        const own = energy(
          row.map((value, j) => values[r * cols + j] - value),
          hessian,
        )
        expect(own).toBeLessThanOrEqual(Math.min(...losses) * (1 + 1e-5))
      }
    },
  )

  it('never makes outputs worse than grids that span the weights, whatever shares a scale', () => {
    for (const [seed, sizes] of [
      { groupSize: 8 },
      { granularity: 'channel' },
      { granularity: 'tensor' },
    ].entries()) {
      for (const grid of ['symmetric', 'asymmetric'] as const) {
        const weights = gaussianMatrix(7, 30, 30 + seed)
        const hessian = randomHessian(30, 45, 40 + seed)
        const options = { bits: 3, grid, ...sizes } as ScalarOptions
        const errorOf = (layer: ScalarLayer) =>
          reconstructionError(weights, dequantizeScalar(layer), hessian).relative
        const spanning = errorOf(quantizeRtn(weights, options))
        const searched = errorOf(quantizeRtn(weights, { ...options, scaleSearch: 'sequential-mse', hessian }))
        expect(searched).toBeLessThan(spanning)
      }
    }
  })

  it('gives GPTQ lower errors too, at 2, 3 and 4 bits, by groups and by channels', async () => {
    const weights = gaussianMatrix(16, 64, 50)
    const hessian = randomHessian(64, 200, 51)
    for (const bits of [2, 3, 4]) {
      for (const sizes of [{ groupSize: 16 }, { granularity: 'channel' }] as const) {
        const errorOf = async (scaleSearch: 'minmax' | 'sequential-mse') => {
          const layer = await quantizeGptq(weights, hessian, { bits, ...sizes, scaleSearch })
          return reconstructionError(weights, dequantizeScalar(layer), hessian).relative
        }
        expect(await errorOf('sequential-mse')).toBeLessThan(await errorOf('minmax'))
      }
    }
  })
})

describe('a symmetric grid', () => {
  it('in 8 bits per channel gives back weights that are whole numbers of a scale, exactly', () => {
    const [rows, cols] = [6, 40]
    const codes = gaussianMatrix(rows, cols, 60).data.map((value) => Math.round(value * 40) + 0)
    for (let r = 0; r < rows; r++) codes[r * cols + r] = r % 2 === 0 ? 127 : -128
    const clamped = codes.map((code) => Math.max(-127, Math.min(127, code)))
    for (let r = 1; r < rows; r += 2) clamped[r * cols + r] = -128
    const weights = matrix(
      rows,
      cols,
      clamped.map((code, i) => code * halfToFloat(0x2400 + 37 * Math.floor(i / cols))),
    )
    const layer = quantizeRtn(weights, { bits: 8, granularity: 'channel', grid: 'symmetric' })
    expect(Array.from(layer.codes, (code) => code - 128)).toEqual(Array.from(clamped))
    expect(dequantizeScalar(layer).data).toEqual(weights.data)
    expect(layer.zeros.every((zero) => zero === 128)).toBe(true)
  })

  it('clips nothing with 3 bits and more', () => {
    for (let bits = 3; bits <= 8; bits++) {
      const weights = gaussianMatrix(4, 64, bits)
      const layer = quantizeRtn(weights, { bits, grid: 'symmetric', groupSize: 32 })
      const values = dequantizeScalar(layer).data
      for (const [i, value] of weights.data.entries()) {
        const scale = halfToFloat(layer.scales[Math.floor(i / 32)])
        expect(Math.abs(values[i] - value)).toBeLessThanOrEqual(scale * (0.5 + 2 ** (bits - 11)))
      }
    }
  })
})

describe('granularity', () => {
  it('tensor: all weights have one grid; channel: a row has one', () => {
    const weights = gaussianMatrix(9, 300, 70)
    const whole = quantizeRtn(weights, { bits: 4, granularity: 'tensor' })
    expect(new Set(whole.scales).size).toBe(1)
    expect(whole.groupSize).toBe(300)
    expect(quantizeRtn(weights, { bits: 4, granularity: 'channel' })).toEqual(
      quantizeRtn(weights, { bits: 4, groupSize: 300 }),
    )
  })
})

describe('options of scalar grids', () => {
  const weights = gaussianMatrix(4, 16, 80)
  it.each([
    [{ bits: 1, grid: 'symmetric' }, /^grid: .*use 2 bits/],
    [{ bits: 4, granularity: 'channel', groupSize: 8 }, /^groupSize: is of no use to granularity 'channel'/],
    [{ bits: 4, scaleCandidates: 8 }, /^scaleCandidates: is of no use to scaleSearch 'minmax'/],
    [{ bits: 4, scaleSearch: 'sequential-mse' }, /^hessian: .*needs the Hessian/],
    [{ bits: 4, scaleSearch: 'best' }, /^scaleSearch: expected one of minmax, mse, sequential-mse/],
  ] as [ScalarOptions, RegExp][])('%j', (options, message) => {
    expect(() => quantizeRtn(weights, options)).toThrow(message)
  })
})

function identity(n: number): Matrix {
  const result = matrix(n, n)
  for (let i = 0; i < n; i++) result.data[i * n + i] = 1
  return result
}

function energy(errors: readonly number[], { data }: Matrix): number {
  const n = errors.length
  let sum = 0
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) sum += errors[i] * data[i * n + j] * errors[j]
  return sum
}
