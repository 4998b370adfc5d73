import { describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import {
  dequantizeLayer,
  dequantizeScalar,
  HessianAccumulator,
  type Matrix,
  matrix,
  NumericError,
  packLayer,
  quantizeGptq,
  quantizeLayer,
  quantizeRtn,
  reconstructionError,
} from '../../src/index.js'

const random = randomGenerator(5)
const normals = (rows: number, cols: number) =>
  matrix(
    rows,
    cols,
    Float32Array.from({ length: rows * cols }, () => randomNormal(random)),
  )
const weight = normals(32, 64)
const inputs = new HessianAccumulator(64)
inputs.add(normals(256, 64))
const hessian = inputs.hessian()
const times = ({ rows, cols, data }: Matrix, exponent: number) =>
  matrix(
    rows,
    cols,
    data.map((value) => value * 2 ** exponent),
  )

describe('a layer times a power of two', () => {
  it.each([-110, -60, -31, -8, 8, 31, 60, 110])('2^%i: GPTVQ gives the same layer times that', async (e) => {
    for (const options of [{ bits: 2 }, { bits: 3, codebookBits: 16 } as const]) {
      const layer = await quantizeLayer(weight, hessian, options)
      const scaled = await quantizeLayer(times(weight, e), hessian, options)
      expect(scaled.indices).toEqual(layer.indices)
      expect(packLayer(scaled).codebooks).toEqual(packLayer(layer).codebooks)
      expect(dequantizeLayer(scaled)).toEqual(times(dequantizeLayer(layer), e))
      const error = reconstructionError(times(weight, e), dequantizeLayer(scaled), hessian)
      expect(error.relative).toBeCloseTo(
        reconstructionError(weight, dequantizeLayer(layer), hessian).relative,
        6,
      )
    }
  })

  it.each([-120, -40, 40, 110])('a Hessian of 2^%i times the size changes nothing', async (e) => {
    const layer = await quantizeLayer(weight, hessian, { bits: 2 })
    expect(await quantizeLayer(weight, times(hessian, e), { bits: 2 })).toEqual(layer)
  })

  it('what no bfloat16 scale can hold is refused by name', async () => {
    expect(dequantizeLayer(await quantizeLayer(times(weight, 124), hessian, { bits: 2 })).rows).toBe(32)
    const small = quantizeLayer(times(weight, -130), hessian, { bits: 2, name: 'layer.7' })
    await expect(small).rejects.toThrow(/^layer\.7: .*bfloat16 does not hold/)
  })

  it.each([-100, -40, -30, -20, -10, 0, 10, 13, 20, 100])(
    '2^%i: RTN and GPTQ keep it as well, or refuse it by name',
    async (e) => {
      for (const bits of [2, 4, 8]) {
        const methods = [
          async (w: Matrix) => quantizeRtn(w, { bits }, 'layer.7'),
          (w: Matrix) => quantizeGptq(w, hessian, { bits, name: 'layer.7' }),
        ]
        for (const quantize of methods) {
          const plain = reconstructionError(
            weight,
            dequantizeScalar(await quantize(weight)),
            hessian,
          ).relative
          const scaled = times(weight, e)
          try {
            const error = reconstructionError(
              scaled,
              dequantizeScalar(await quantize(scaled)),
              hessian,
            ).relative
            expect(error).toBeLessThan(1.1 * plain)
          } catch (thrown) {
            if (!(thrown instanceof NumericError)) throw thrown
            expect(thrown.message).toMatch(/^layer\.7: /)
            expect(Math.abs(e)).toBeGreaterThan(8)
          }
        }
      }
    },
  )
})
