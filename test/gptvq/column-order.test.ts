import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  bitsPerValue,
  dequantizeLayer,
  type Matrix,
  matrix,
  NumericError,
  packLayer,
  quantizeLayer,
  reconstructionError,
  unpackLayer,
  type VqOptions,
} from '../../src/index.js'
import { permuteColumns } from '../../src/packing/permutation.js'
import { randomPermutation } from '../packing/layers.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'
import { largestDifference } from '../support/tolerance.js'

const activation = { columnOrder: 'activation' } as const

/** The Hessian of the inputs `permutation` names, by its definition. */
function reordered({ data, cols }: Matrix, permutation: Uint32Array): Matrix {
  return matrix(
    cols,
    cols,
    Float32Array.from({ length: cols * cols }, (_, at) => {
      const [i, j] = [permutation[Math.floor(at / cols)], permutation[at % cols]]
      return data[i * cols + j]
    }),
  )
}

/** Columns by falling diagonal, equal ones by index: insertion, one after the other. */
function fallingDiagonal({ data, cols }: Matrix): Uint32Array {
  const order: number[] = []
  for (let column = 0; column < cols; column++) {
    const at = order.findIndex((other) => data[other * cols + other] < data[column * cols + column])
    order.splice(at < 0 ? order.length : at, 0, column)
  }
  return Uint32Array.from(order)
}

/** The same Hessian with its last input in other units, so that its diagonal there is what it is at the first. */
function withEqualEnds({ data, cols }: Matrix): Matrix {
  const last = cols - 1
  const unit = Math.sqrt(data[0] / data[last * cols + last])
  const scaled = matrix(cols, cols, data.slice())
  for (let i = 0; i < last; i++) {
    scaled.data[i * cols + last] *= unit
    scaled.data[last * cols + i] *= unit
  }
  scaled.data[last * cols + last] = data[0]
  return scaled
}

const problems = fc.record({
  rows: fc.integer({ min: 1, max: 20 }),
  cols: fc.integer({ min: 1, max: 70 }),
  vectorDim: fc.constantFrom<1 | 2 | 4>(1, 2, 4),
  scaleBlockSize: fc.constantFrom<undefined | 16>(undefined, 16),
  seed: fc.nat(1e6),
})

describe("columnOrder: 'activation'", () => {
  it('quantizes the layer with its columns by falling diagonal, and stores that order', async () => {
    await fc.assert(
      fc.asyncProperty(problems, async ({ rows, cols, seed, ...shape }) => {
        const options: VqOptions = { ...shape, groupSize: 1024, columnsPerGroup: 32 }
        const weight = gaussianMatrix(rows, cols, seed)
        const hessian = withEqualEnds(randomHessian(cols, 3 * cols + 10, seed + 1))
        const layer = await quantizeLayer(weight, hessian, { ...options, ...activation })
        const permutation = fallingDiagonal(hessian)
        expect(layer.permutation).toEqual(permutation)
        const sorted = matrix(rows, cols, permuteColumns(weight.data, permutation))
        const natural = await quantizeLayer(sorted, reordered(hessian, permutation), options)
        expect(layer).toEqual({ ...natural, permutation })
        const values = dequantizeLayer(layer)
        expect(permuteColumns(values.data, permutation)).toEqual(dequantizeLayer(natural).data)
        expect(dequantizeLayer(unpackLayer(packLayer(layer))).data).toEqual(values.data)
      }),
      { numRuns: 40 },
    )
  })

  it('equals natural order bit for bit where the diagonal falls already', async () => {
    for (const vectorDim of [1, 2, 4] as const) {
      const weight = gaussianMatrix(48, 96, 3)
      const any = randomHessian(96, 300, 4)
      const hessian = reordered(any, fallingDiagonal(any))
      const options = { vectorDim, columnsPerGroup: 32, groupSize: 1024 }
      const natural = await quantizeLayer(weight, hessian, options)
      const { permutation, ...layer } = await quantizeLayer(weight, hessian, { ...options, ...activation })
      expect(permutation).toEqual(Uint32Array.from({ length: 96 }, (_, i) => i))
      expect(layer).toEqual(natural)
    }
  })

  it('does not depend on how the inputs are numbered', async () => {
    const weight = gaussianMatrix(24, 96, 5)
    const hessian = randomHessian(96, 300, 6)
    const shuffle = randomPermutation(96, 7)
    const options = { columnsPerGroup: 32, groupSize: 256, ...activation }
    const values = dequantizeLayer(await quantizeLayer(weight, hessian, options))
    const shuffled = dequantizeLayer(
      await quantizeLayer(
        matrix(24, 96, permuteColumns(weight.data, shuffle)),
        reordered(hessian, shuffle),
        options,
      ),
    )
    // the mean of the diagonal, and with it the damping, is summed in another order
    const difference = largestDifference(permuteColumns(values.data, shuffle), shuffled.data)
    expect(difference).toBeLessThan(1e-4)
  })

  it('takes no more bits than bpv allows, the order of columns counted', async () => {
    const weight = gaussianMatrix(64, 128, 8)
    const layer = await quantizeLayer(weight, randomHessian(128, 300, 9), { bpv: 2.5, ...activation })
    const { other, total } = bitsPerValue(packLayer(layer))
    // 7 bits a column, and 4 a column of vectors for the widths
    expect(other).toBe((7 + 4 / 2) / 64)
    expect(total).toBeLessThanOrEqual(2.5)
  })

  it('gains in the walk where few inputs at the end carry most of the energy', async () => {
    const [rows, cols] = [32, 128]
    const weight = gaussianMatrix(rows, cols, 10)
    const plain = randomHessian(cols, 400, 11)
    const size = (i: number) => (i >= cols - 16 ? 8 : 1)
    const hessian = matrix(
      cols,
      cols,
      plain.data.map((value, at) => value * size(Math.floor(at / cols)) * size(at % cols)),
    )
    const error = async (options: VqOptions) => {
      const walk = { damping: 0.01, codebookUpdateSteps: 0, refinementRounds: 0 }
      const columns = { groupSize: 2048, columnsPerGroup: 128, scaleBlockSize: 'none' as const, ...walk }
      const layer = await quantizeLayer(weight, hessian, { ...columns, ...options })
      return reconstructionError(weight, dequantizeLayer(layer), hessian).relative
    }
    expect(await error(activation)).toBeLessThan(0.9 * (await error({})))
  })

  it('names the columns of a bad Hessian as they were given', async () => {
    const weight = gaussianMatrix(4, 8, 12)
    const hessian = randomHessian(8, 50, 13)
    hessian.data[5 * 8 + 5] = Number.NaN
    const task = { name: 'block.q', ...activation }
    const error = await quantizeLayer(weight, hessian, task).catch((e) => e)
    expect(error).toBeInstanceOf(NumericError)
    expect(error.message).toMatch(/block\.q: Hessian: found NaN at row 5, column 5/)
  })
})
