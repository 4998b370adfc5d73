import { expect, it } from 'vitest'
import {
  bitsPerValue,
  dequantizeLayer,
  HessianAccumulator,
  matrix,
  packLayer,
  quantizeLayer,
  quantizeOnInputs,
  ShapeError,
} from '../../src/index.js'

const wave = (rows: number, cols: number, phase: number) =>
  matrix(
    rows,
    cols,
    Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i * i + phase)),
  )
const weight = wave(32, 64, 0)
const batches = [wave(40, 64, 1), wave(60, 64, 2)]

it('is the Hessian, quantizeLayer, packing and error one after the other', async () => {
  const seen = new HessianAccumulator(64)
  for (const batch of batches) seen.add(batch)
  const layer = await quantizeLayer(weight, seen.hessian(), { bits: 2, tokens: 100 })
  const result = await quantizeOnInputs(weight, batches, { bits: 2 })
  expect(result.layer).toEqual(layer)
  expect(result.packed).toEqual(packLayer(layer))
  expect(result.weight).toEqual(dequantizeLayer(layer))
  expect(result.bits).toEqual(bitsPerValue(packLayer(layer)))
  // the outputs themselves, by plain sums
  let [lost, all] = [0, 0]
  for (const { rows, data } of batches) {
    for (let t = 0; t < rows; t++) {
      for (let r = 0; r < 32; r++) {
        let [full, less] = [0, 0]
        for (let c = 0; c < 64; c++) {
          full += weight.data[r * 64 + c] * data[t * 64 + c]
          less += (weight.data[r * 64 + c] - result.weight.data[r * 64 + c]) * data[t * 64 + c]
        }
        all += full * full
        lost += less * less
      }
    }
  }
  expect(result.error.relative).toBeCloseTo(lost / all, 5)
})

it('takes one matrix as well, and refuses none', async () => {
  const [one] = batches
  expect((await quantizeOnInputs(weight, one)).layer).toEqual((await quantizeOnInputs(weight, [one])).layer)
  await expect(quantizeOnInputs(weight, [])).rejects.toThrow(ShapeError)
  await expect(quantizeOnInputs(weight, [wave(4, 63, 0)])).rejects.toThrow(/63 columns/)
})
