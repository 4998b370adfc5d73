import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  AbortedError,
  bitsPerValue,
  decodeCodebooks,
  dequantizeLayer,
  matrix,
  NumericError,
  OptionError,
  packLayer,
  quantizeKmeans,
  quantizeLayer,
  reconstructionError,
  ShapeError,
  unpackLayer,
  type VqOptions,
} from '../../src/index.js'
import {
  blocksPerRow,
  centroidsOf,
  columnGroupsOf,
  decodeBlockScales,
  vectorsPerRow,
} from '../../src/packing/vq-layer.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'
import { damped, walkRow } from './oracle.js'

const columnsOnly: VqOptions = { codebookUpdateSteps: 0, refinementRounds: 0 }

describe('the walk over the columns', () => {
  it.each([
    { vectorDim: 1, bits: 2 },
    { vectorDim: 2, bits: 2 },
    { vectorDim: 2, bits: 3 },
    { vectorDim: 4, bits: 1 },
    { vectorDim: 2, bits: 2, scaleBlockSize: 16 },
  ] as const)('chooses the indices of a float64 walk by the inverse Hessian itself: %o', async (shape) => {
    const [rows, cols] = [12, 160]
    const weight = gaussianMatrix(rows, cols, 1)
    const hessian = randomHessian(cols, 400, 2)
    const layer = await quantizeLayer(weight, hessian, {
      ...shape,
      ...columnsOnly,
      groupSize: 6 * 32,
      columnsPerGroup: 32,
    })
    const { layout, indices } = layer
    const codebooks = decodeCodebooks(layer)
    const scales = decodeBlockScales(layer)
    const k = centroidsOf(layout)
    const d = shape.vectorDim
    const h = damped(hessian, 0.1)
    let different = 0
    for (let r = 0; r < rows; r++) {
      walkRow(
        Float64Array.from(weight.data.subarray(r * cols, (r + 1) * cols)),
        h,
        d,
        (vector, metric, column) => {
          const group = Math.floor(r / layout.rowsPerGroup) * columnGroupsOf(layout) + Math.floor(column / 32)
          const scale = scales ? scales[r * blocksPerRow(layout) + Math.floor(column / 16)] : 1
          const centroid = (j: number) =>
            Array.from(codebooks.subarray((group * k + j) * d, (group * k + j + 1) * d).map((c) => scale * c))
          const distance = (c: number[]) => {
            let sum = 0
            for (let a = 0; a < d; a++)
              for (let b = 0; b < d; b++) sum += (vector[a] - c[a]) * metric.get(a, b) * (vector[b] - c[b])
            return sum
          }
          const distances = Array.from({ length: k }, (_, j) => distance(centroid(j)))
          const nearest = distances.indexOf(Math.min(...distances))
          if (nearest !== indices[r * vectorsPerRow(layout) + column / d]) different++
          return centroid(indices[r * vectorsPerRow(layout) + column / d])
        },
      )
    }
    // a vector halfway between two centroids may fall either way in float32
    expect(different).toBeLessThanOrEqual(1)
  })

  it('gives the same indices whatever the scale of the activations', async () => {
    const weight = gaussianMatrix(16, 64, 3)
    const hessian = randomHessian(64, 200, 4)
    const scaled = matrix(
      64,
      64,
      hessian.data.map((value) => value * 2 ** 20),
    )
    const options = { ...columnsOnly, groupSize: 512, columnsPerGroup: 64 }
    const layer = await quantizeLayer(weight, hessian, options)
    expect((await quantizeLayer(weight, scaled, options)).indices).toEqual(layer.indices)
  })

  it('gives the rows of a group the same result whatever rows lie around them', async () => {
    const weight = gaussianMatrix(24, 64, 5)
    const hessian = randomHessian(64, 200, 6)
    const options = { groupSize: 8 * 64, columnsPerGroup: 64, kmeansInit: 'mahalanobis' } as const
    const whole = dequantizeLayer(await quantizeLayer(weight, hessian, options)).data
    for (const [from, to] of [
      [0, 8],
      [8, 24],
      [16, 24],
    ]) {
      const part = matrix(to - from, 64, weight.data.slice(from * 64, to * 64))
      const alone = dequantizeLayer(await quantizeLayer(part, hessian, options)).data
      expect(alone).toEqual(whole.slice(from * 64, to * 64))
    }
  })
})

describe('quantizeLayer', () => {
  it('is exact where a group has no more distinct vectors than centroids', async () => {
    const pattern = [0.5, -0.25, 0.125, 1, -1, 0.75, 0, 0.0625]
    const weight = matrix(
      8,
      32,
      Float32Array.from({ length: 256 }, (_, i) => pattern[i % 8]),
    )
    const layer = await quantizeLayer(weight, randomHessian(32, 100, 7), { codebookBits: 16 })
    expect(dequantizeLayer(layer).data).toEqual(weight.data)
  })

  it('handles every shape: finite values, the bytes of the plain layout, no more loss than after the columns alone', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 75 }),
        fc.constantFrom(1, 2, 4),
        fc.integer({ min: 1, max: 3 }),
        fc.constantFrom(undefined, 8, 16, 32),
        fc.constantFrom('kmeans++', 'mahalanobis'),
        fc.integer({ min: 0, max: 1000 }),
        async (rows, cols, vectorDim, bits, columnsPerGroup, kmeansInit, seed) => {
          const shape = { vectorDim, bits, columnsPerGroup, scaleBlockSize: 'none' }
          const options = { ...shape, kmeansInit, seed } as VqOptions
          const weight = gaussianMatrix(rows, cols, seed)
          const hessian = randomHessian(cols, 4 * cols + 10, seed + 1)
          const layer = await quantizeLayer(weight, hessian, options)
          const values = dequantizeLayer(layer)
          expect(values.data.every(Number.isFinite)).toBe(true)
          const plain = quantizeKmeans(weight, { vectorDim, bits, columnsPerGroup } as VqOptions)
          expect(bitsPerValue(packLayer(layer))).toEqual(bitsPerValue(packLayer(plain)))
          const columns = dequantizeLayer(
            await quantizeLayer(weight, hessian, { ...options, ...columnsOnly }),
          )
          const loss = reconstructionError(weight, values, hessian).relative
          const columnsLoss = reconstructionError(weight, columns, hessian).relative
          expect(loss).toBeLessThanOrEqual(columnsLoss * (1 + 1e-5) + 1e-9)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('handles every shape with block scales: finite, read back bit for bit, never worse than after the columns', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 1, max: 140 }),
        fc.constantFrom(1, 2, 4),
        fc.constantFrom(16, 32, 64),
        fc.constantFrom(undefined, 64, 128),
        fc.boolean(),
        fc.constantFrom(0, 4),
        fc.integer({ min: 0, max: 1000 }),
        async (rows, cols, vectorDim, scaleBlockSize, columnsPerGroup, hasZeros, trellisBits, seed) => {
          const options = { vectorDim, scaleBlockSize, columnsPerGroup, seed, trellisBits } as VqOptions
          const weight = gaussianMatrix(rows, cols, seed)
          if (hasZeros) for (let i = 0; i < weight.data.length / 2; i++) weight.data[i] = 0
          const hessian = randomHessian(cols, 4 * cols + 10, seed + 1)
          const layer = await quantizeLayer(weight, hessian, options)
          const values = dequantizeLayer(layer)
          expect(values.data.every(Number.isFinite)).toBe(true)
          expect(dequantizeLayer(unpackLayer(packLayer(layer))).data).toEqual(values.data)
          const alone = trellisBits > 0 ? { refinementRounds: 0 } : columnsOnly
          const columns = dequantizeLayer(await quantizeLayer(weight, hessian, { ...options, ...alone }))
          const loss = reconstructionError(weight, values, hessian).relative
          const columnsLoss = reconstructionError(weight, columns, hessian).relative
          expect(loss).toBeLessThanOrEqual(columnsLoss * (1 + 1e-5) + 1e-9)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('gains by block scales what they cost where blocks differ in size', async () => {
    const weight = gaussianMatrix(64, 256, 25)
    for (let i = 0; i < weight.data.length; i++) weight.data[i] *= 2 ** ((Math.floor(i / 32) * 37) % 4)
    const hessian = randomHessian(256, 600, 26)
    const measure = async (options: VqOptions) => {
      const layer = await quantizeLayer(weight, hessian, { bpv: 2.25, ...options })
      expect(bitsPerValue(packLayer(layer)).total).toBeLessThanOrEqual(2.25)
      return reconstructionError(weight, dequantizeLayer(layer), hessian).relative
    }
    expect(await measure({ scaleBlockSize: 32 })).toBeLessThan(
      0.7 * (await measure({ scaleBlockSize: 'none' })),
    )
  })

  it('gives the same bytes for the same seed, and others for another', async () => {
    const weight = gaussianMatrix(32, 128, 8)
    const hessian = randomHessian(128, 300, 9)
    const bytes = async (seed: number) =>
      packLayer(await quantizeLayer(weight, hessian, { seed, trellisBits: 0 }))
    expect(await bytes(3)).toEqual(await bytes(3))
    expect((await bytes(3)).indices).not.toEqual((await bytes(4)).indices)
  })

  it('lowers the error with every step it adds: metric, codebook update, refinement', async () => {
    const weight = gaussianMatrix(64, 128, 10)
    const hessian = randomHessian(128, 300, 11)
    const error = async (options: VqOptions) =>
      reconstructionError(weight, dequantizeLayer(await quantizeLayer(weight, hessian, options)), hessian)
        .relative
    const columns = await error(columnsOnly)
    const updated = await error({ refinementRounds: 0 })
    const refined = await error({ refinementRounds: 1 })
    const twice = await error({ refinementRounds: 2 })
    expect(updated).toBeLessThan(columns)
    expect(refined).toBeLessThan(updated)
    expect(twice).toBeLessThan(refined)
  })

  it('beats plain k-means with the same bytes on correlated inputs', async () => {
    const weight = gaussianMatrix(64, 128, 23)
    const hessian = randomHessian(128, 300, 24)
    for (const vectorDim of [1, 2, 4] as const) {
      const ours = dequantizeLayer(
        await quantizeLayer(weight, hessian, { vectorDim, groupSize: 4096, columnsPerGroup: 128 }),
      )
      const plain = dequantizeLayer(
        quantizeKmeans(weight, { vectorDim, groupSize: 4096, columnsPerGroup: 128 }),
      )
      const gain =
        reconstructionError(weight, ours, hessian).relative /
        reconstructionError(weight, plain, hessian).relative
      expect(gain).toBeLessThan(0.7)
    }
  })

  it('is not disturbed by dead inputs', async () => {
    const weight = gaussianMatrix(16, 48, 12)
    const hessian = randomHessian(48, 200, 13)
    for (let j = 0; j < 48; j++)
      for (const dead of [5, 30]) {
        hessian.data[dead * 48 + j] = 0
        hessian.data[j * 48 + dead] = 0
      }
    const layer = await quantizeLayer(weight, hessian)
    const values = dequantizeLayer(layer)
    expect(values.data.every(Number.isFinite)).toBe(true)
    expect(reconstructionError(weight, values, hessian).relative).toBeLessThan(0.1)
  })

  it('gives rows of zeros next to nothing, beside others of one size', async () => {
    const weight = gaussianMatrix(64, 64, 18)
    const isPruned = (i: number) => Math.floor(i / 64) % 4 === 0
    for (let i = 0; i < weight.data.length; i++) if (isPruned(i)) weight.data[i] = 0
    const values = dequantizeLayer(await quantizeLayer(weight, randomHessian(64, 200, 19)))
    const squares = values.data.filter((_, i) => isPruned(i)).reduce((sum, value) => sum + value * value, 0)
    expect(Math.sqrt(squares / (16 * 64))).toBeLessThan(0.02)
  })

  it('takes all-zero weights and all-zero inputs', async () => {
    const zeros = matrix(8, 16)
    const layer = await quantizeLayer(zeros, randomHessian(16, 50, 14))
    expect(dequantizeLayer(layer).data.every((value) => value === 0)).toBe(true)
    const deaf = await quantizeLayer(gaussianMatrix(8, 16, 15), matrix(16, 16))
    expect(dequantizeLayer(deaf).data.every(Number.isFinite)).toBe(true)
  })

  it('reports progress that never falls and ends at 1', async () => {
    const seen: number[] = []
    const onProgress = (done: number) => seen.push(done)
    await quantizeLayer(gaussianMatrix(8, 64, 16), randomHessian(64, 100, 17), {
      columnsPerGroup: 16,
      onProgress,
    })
    expect(seen.length).toBeGreaterThan(4)
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
    expect(seen.at(-1)).toBe(1)
  })

  it('stops when its signal fires', async () => {
    const controller = new AbortController()
    const work = quantizeLayer(gaussianMatrix(8, 64, 18), randomHessian(64, 100, 19), {
      columnsPerGroup: 16,
      signal: controller.signal,
      onProgress: () => controller.abort(),
    })
    await expect(work).rejects.toThrow(AbortedError)
  })

  it('refuses an option that there is not', async () => {
    const misspelt = { scaleBlocksize: 32 } as VqOptions
    const error = await quantizeLayer(gaussianMatrix(4, 8, 1), randomHessian(8, 20, 2), misspelt).catch(
      (e) => e,
    )
    expect(error).toBeInstanceOf(OptionError)
    expect(error.message).toBe('scaleBlocksize: there is no such option. Did you mean scaleBlockSize?')
  })

  it('refuses what it cannot quantize, naming the layer', async () => {
    const weight = gaussianMatrix(8, 16, 20)
    const hessian = randomHessian(16, 50, 21)
    const damagedWeight = matrix(8, 16, weight.data.slice())
    damagedWeight.data[3 * 16 + 5] = Number.NaN
    const task = { name: 'block.q' }
    await expect(quantizeLayer(damagedWeight, hessian, task)).rejects.toThrow(
      /block\.q.*NaN at row 3, column 5/,
    )
    await expect(quantizeLayer(weight, randomHessian(12, 50, 22), task)).rejects.toThrow(ShapeError)
    const indefinite = matrix(16, 16, hessian.data.slice())
    indefinite.data[1] = 0.99 * Math.sqrt(indefinite.data[0] * indefinite.data[17])
    indefinite.data[16] = indefinite.data[1]
    indefinite.data[2] = -indefinite.data[1]
    indefinite.data[32] = -indefinite.data[1]
    indefinite.data[18] = indefinite.data[1]
    indefinite.data[33] = indefinite.data[1]
    const error = await quantizeLayer(weight, indefinite, { ...task, damping: 1e-6 }).catch((e) => e)
    expect(error).toBeInstanceOf(NumericError)
    expect(error.message).toMatch(/block\.q: with damping 0\.000001.*not positive definite/)
    await expect(quantizeLayer(weight, hessian, { bits: 0 })).rejects.toThrow(OptionError)
  })
})

it.each([{ trellisBits: 0 }, {}])(
  'tells how far refinement has come, and never less than before: %j',
  async (options) => {
    const weight = gaussianMatrix(64, 512, 3)
    const shares: number[] = []
    await quantizeLayer(weight, randomHessian(512, 1024, 4), {
      ...options,
      columnsPerGroup: 128,
      onProgress: (done) => shares.push(done),
    })
    // four column groups in the walk, and in each round of refinement
    expect(shares.length).toBeGreaterThan(2 * 4)
    expect(shares).toEqual(shares.toSorted((a, b) => a - b))
    expect(shares.at(-1)).toBe(1)
  },
)
