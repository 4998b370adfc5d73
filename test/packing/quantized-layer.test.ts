import fc from 'fast-check'
import { expect, it } from 'vitest'
import { dequantize, dequantizeRows } from '../../src/packing/quantized-layer.js'
import { layers, randomPermutation } from './layers.js'
import { scalarLayers } from './scalar-layers.js'

const permuted = fc
  .tuple(layers, fc.nat(1e6))
  .map(([layer, seed]) => ({ ...layer, permutation: randomPermutation(layer.layout.cols, seed) }))

it('any run of rows of a layer is that run of the whole layer, bit for bit', () => {
  fc.assert(
    fc.property(fc.oneof(layers, permuted, scalarLayers), fc.nat(), fc.nat(), (layer, a, b) => {
      const { rows, cols, data } = dequantize(layer)
      const first = a % rows
      const count = 1 + (b % (rows - first))
      expect(dequantizeRows(layer, first, count)).toEqual(data.slice(first * cols, (first + count) * cols))
    }),
    { numRuns: 300 },
  )
})
