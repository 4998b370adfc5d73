import { describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import {
  dequantizeLayer,
  HessianAccumulator,
  type Matrix,
  matrix,
  quantizeLayer,
  reconstructionError,
  type VqOptions,
} from '../../src/index.js'

const rows = 48
const cols = 64
const random = randomGenerator(77)
const normals = (count: number, scale = 1) =>
  Float32Array.from({ length: count }, () => scale * randomNormal(random))
const weight = matrix(rows, cols, normals(rows * cols, 0.05))
const largest = (m: Matrix) => m.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
const distance = (m: Matrix) => m.data.reduce((sum, value, i) => sum + (value - weight.data[i]) ** 2, 0)
const walkOf = (options: VqOptions): VqOptions => ({
  ...options,
  refinementRounds: 0,
  ...(options.trellisBits !== 4 && { codebookUpdateSteps: 0 }),
})

function hessianOf(tokens: Matrix): Matrix {
  const inputs = new HessianAccumulator(cols)
  inputs.add(tokens)
  return inputs.hessian()
}

/** Tokens that are mixtures of `rank` directions, with a little noise beside them or none. */
function tokensOf(count: number, rank: number, noise = 0): Matrix {
  const directions = normals(rank * cols)
  const tokens = matrix(count, cols, normals(count * cols, noise))
  for (let t = 0; t < count; t++) {
    const shares = normals(rank)
    for (let r = 0; r < rank; r++)
      for (let j = 0; j < cols; j++) tokens.data[t * cols + j] += shares[r] * directions[r * cols + j]
  }
  return tokens
}

const settings: VqOptions[] = [
  { bits: 2, trellisBits: 0 },
  { bits: 2, trellisBits: 4 },
  { bits: 4, groupSize: 1024, columnsPerGroup: 64, codebookBits: 16 },
  { bits: 3, vectorDim: 1, scaleBlockSize: 'none' },
]

describe('a Hessian that is blind in some directions', () => {
  it.each([
    [
      'all tokens alike',
      matrix(
        400,
        cols,
        Float32Array.from({ length: 400 * cols }, (_, i) => 1 + (i % cols) / 100),
      ),
    ],
    ['one token', tokensOf(1, 1)],
    ['rank 1', tokensOf(300, 1)],
    ['rank 5', tokensOf(300, 5)],
    ['nearly rank 5', tokensOf(300, 5, 1e-4)],
    ['one token less than columns', tokensOf(cols - 1, cols)],
  ])('%s: refinement stays near the weights, and no worse than the walk where it sees', async (_, tokens) => {
    const hessian = hessianOf(tokens)
    for (const options of settings) {
      const walked = dequantizeLayer(await quantizeLayer(weight, hessian, walkOf(options)))
      for (const known of [{}, { tokens: tokens.rows }]) {
        const refined = dequantizeLayer(await quantizeLayer(weight, hessian, { ...options, ...known }))
        expect(largest(refined)).toBeLessThan(1.5 * largest(weight))
        expect(distance(refined)).toBeLessThanOrEqual(4 * distance(walked))
        const [before, after] = [walked, refined].map((q) => reconstructionError(weight, q, hessian).relative)
        // with damping a loss falls of which this is a part; told of one token it may give up a little of it
        expect(after).toBeLessThan(1.2 * before + 1e-2)
      }
    }
  })

  it('enough tokens: the bytes are those of a layer that is not told how many there were', async () => {
    const hessian = hessianOf(tokensOf(2 * cols, cols, 0.1))
    const told = await quantizeLayer(weight, hessian, { tokens: 2 * cols })
    expect(told).toEqual(await quantizeLayer(weight, hessian))
  })

  it.each([4, 16, 40])(
    '%i tokens: on other tokens the error is below that of the walk, and of a descent that is not told',
    async (count) => {
      const all = tokensOf(4000, cols, 0.2)
      const heldOut = hessianOf(matrix(3900, cols, all.data.slice(100 * cols)))
      const hessian = hessianOf(matrix(count, cols, all.data.slice(0, count * cols)))
      const errorOf = async (options: VqOptions & { tokens?: number }) =>
        reconstructionError(weight, dequantizeLayer(await quantizeLayer(weight, hessian, options)), heldOut)
          .relative
      for (const options of [{ trellisBits: 0 }, { trellisBits: 4 }]) {
        const told = await errorOf({ ...options, tokens: count })
        expect(told).toBeLessThan(1.02 * (await errorOf(walkOf(options))))
        expect(told).toBeLessThan(1.01 * (await errorOf(options)))
      }
    },
  )
})
