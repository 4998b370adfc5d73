import { describe, expect, it } from 'vitest'
import {
  bitsPerValue,
  dequantizeScalar,
  halfToFloat,
  matrix,
  OptionError,
  packScalar,
  quantizeGptq,
  quantizeKmeans,
  quantizeRtn,
  reconstructionError,
} from '../../src/index.js'
import { dequantizeLayer } from '../../src/packing/vq-layer.js'
import { damped, walkRow } from '../gptvq/oracle.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'

describe('quantizeRtn', () => {
  it('puts every weight at the nearest point of its grid', () => {
    const weight = gaussianMatrix(9, 50, 1)
    const layer = quantizeRtn(weight, { bits: 3, groupSize: 16 })
    const values = dequantizeScalar(layer).data
    for (let i = 0; i < values.length; i++) {
      const group = Math.floor(i / 50) * 4 + Math.floor((i % 50) / 16)
      const grid = Array.from(
        { length: 8 },
        (_, c) => (c - layer.zeros[group]) * halfToFloat(layer.scales[group]),
      )
      const least = Math.min(...grid.map((point) => Math.abs(point - weight.data[i])))
      expect(Math.abs(values[i] - weight.data[i])).toBeCloseTo(least, 6)
    }
  })

  it('counts scale and zero point: bits + (16 + bits) / groupSize', () => {
    const layer = quantizeRtn(gaussianMatrix(16, 256, 2), { bits: 2, groupSize: 128 })
    expect(bitsPerValue(packScalar(layer)).total).toBe(2 + 18 / 128)
  })
})

describe('quantizeGptq', () => {
  it('chooses the codes of a float64 walk by the inverse Hessian itself', async () => {
    const [rows, cols, groupSize] = [6, 48, 16]
    const weight = gaussianMatrix(rows, cols, 3)
    const hessian = randomHessian(cols, 200, 4)
    const layer = await quantizeGptq(weight, hessian, { bits: 3, groupSize })
    const values = dequantizeScalar(layer)
    for (let r = 0; r < rows; r++) {
      const row = Float64Array.from(weight.data.subarray(r * cols, (r + 1) * cols))
      walkRow(row, damped(hessian, 0.01), 1, ([w], _metric, column) => {
        const group = r * 3 + Math.floor(column / groupSize)
        const scale = halfToFloat(layer.scales[group])
        const code = Math.max(0, Math.min(7, Math.round(w / scale) + layer.zeros[group]))
        expect(code).toBe(layer.codes[r * cols + column])
        return [(code - layer.zeros[group]) * scale]
      })
      for (let j = 0; j < cols; j++) expect(values.data[r * cols + j]).toBeCloseTo(row[j], 5)
    }
  })

  it('beats rounding on correlated inputs, at 2, 3 and 4 bits', async () => {
    const weight = gaussianMatrix(32, 128, 5)
    const hessian = randomHessian(128, 400, 6)
    for (const bits of [2, 3, 4]) {
      const rtn = dequantizeScalar(quantizeRtn(weight, { bits }))
      const gptq = dequantizeScalar(await quantizeGptq(weight, hessian, { bits }))
      expect(reconstructionError(weight, gptq, hessian).relative).toBeLessThan(
        reconstructionError(weight, rtn, hessian).relative,
      )
    }
  })

  it('refuses a Hessian of another layer and impossible options', async () => {
    const weight = gaussianMatrix(4, 16, 7)
    await expect(quantizeGptq(weight, randomHessian(8, 50, 8), { bits: 2 })).rejects.toThrow(/16 x 16/)
    await expect(quantizeGptq(weight, randomHessian(16, 50, 8), { bits: 2, damping: -1 })).rejects.toThrow(
      OptionError,
    )
    expect(() => quantizeRtn(weight, { bits: 9 })).toThrow(OptionError)
    expect(() => quantizeRtn(weight, { bits: 2, groupSize: 0 })).toThrow(OptionError)
  })
})

describe('quantizeKmeans', () => {
  it('puts every vector at the nearest centroid, give or take the rounding of the codebook', () => {
    const weight = gaussianMatrix(10, 33, 9)
    const layer = quantizeKmeans(weight, { groupSize: 160, columnsPerGroup: 32, codebookBits: 16 })
    const finer = quantizeKmeans(weight, { bits: 3, groupSize: 320, columnsPerGroup: 32 })
    const error = (values: Float32Array) =>
      values.reduce((sum, v, i) => sum + (v - weight.data[i]) ** 2, 0) / 330
    expect(error(dequantizeLayer(layer).data)).toBeLessThan(0.25)
    expect(error(dequantizeLayer(finer).data)).toBeLessThan(error(dequantizeLayer(layer).data))
  })

  it('refuses block scales, which it does not fit', () => {
    const options = { bits: 2, scaleBlockSize: 32 }
    expect(() => quantizeKmeans(gaussianMatrix(4, 64, 11), options)).toThrow(
      /^scaleBlockSize: .*leave it out/,
    )
  })

  it('gives the same result for the same seed, and takes groups smaller than a codebook', () => {
    const weight = gaussianMatrix(3, 20, 10)
    expect(quantizeKmeans(weight, { bits: 4, seed: 5 })).toEqual(quantizeKmeans(weight, { bits: 4, seed: 5 }))
    const constant = matrix(2, 6, new Float32Array(12).fill(0.5))
    expect(dequantizeLayer(quantizeKmeans(constant)).data.every((v) => Math.abs(v - 0.5) < 0.5 / 250)).toBe(
      true,
    )
  })
})
