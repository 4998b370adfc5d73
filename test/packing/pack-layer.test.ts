import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ShapeError } from '../../src/errors.js'
import { type PackedLayer, packLayer, unpackLayer } from '../../src/packing/pack-layer.js'
import { dequantizeLayer, type VqLayer } from '../../src/packing/vq-layer.js'
import { thrownBy } from '../support/tolerance.js'
import { layers, randomLayer } from './layers.js'

function bytesOf(array: ArrayBufferView): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength)
}

function expectSame(actual: VqLayer, expected: VqLayer): void {
  expect(actual.layout).toEqual(expected.layout)
  expect(actual.codebookBits).toBe(expected.codebookBits)
  for (const part of ['indices', 'codebooks', 'codebookScales'] as const) {
    expect(actual[part].constructor).toBe(expected[part].constructor)
    expect(bytesOf(actual[part]).equals(bytesOf(expected[part]))).toBe(true)
  }
}

describe('packLayer and unpackLayer', () => {
  it('give back the same layer and the same weights, for layouts of any raggedness', () => {
    fc.assert(
      fc.property(layers, (layer) => {
        const unpacked = unpackLayer(packLayer(layer))
        expectSame(unpacked, layer)
        expect(bytesOf(dequantizeLayer(unpacked).data).equals(bytesOf(dequantizeLayer(layer).data))).toBe(
          true,
        )
      }),
      { numRuns: 300 },
    )
  })

  it.each([
    { vectorDim: 1, bits: 8 },
    { vectorDim: 2, bits: 5 },
    { vectorDim: 2, bits: 8 },
    { vectorDim: 4, bits: 3 },
    { vectorDim: 4, bits: 4 },
  ])('give back the same layer with wide indices: $vectorDim-D, $bits bits', ({ vectorDim, bits }) => {
    for (const codebookBits of [8, 16] as const) {
      const layout = { rows: 7, cols: 4 * 9 + 1, vectorDim, bits, columnsPerGroup: 40, rowsPerGroup: 5 }
      const layer = randomLayer(layout, codebookBits, bits)
      layer.indices.set([2 ** (bits * vectorDim) - 1, 0, 2 ** (bits * vectorDim) - 1])
      expectSame(unpackLayer(packLayer(layer)), layer)
    }
  })

  it('takes bits * vectorDim bits per vector, rows filled up to bytes', () => {
    // 5 vectors of 6 bits: 30 bits, 4 bytes
    const layout = { rows: 3, cols: 9, vectorDim: 2, bits: 3, columnsPerGroup: 10, rowsPerGroup: 3 }
    expect(packLayer(randomLayer(layout, 8, 1)).indices).toHaveLength(3 * 4)
  })
})

describe('unpackLayer refuses', () => {
  const layout = { rows: 5, cols: 10, vectorDim: 2, bits: 2, columnsPerGroup: 4, rowsPerGroup: 2 }
  const packed = packLayer(randomLayer(layout, 8, 2))

  it.each<[string, PackedLayer, number, number]>([
    ['indices', { ...packed, indices: packed.indices.subarray(1) }, 14, 15],
    ['codebooks', { ...packed, codebooks: new Int8Array(9 * 32 + 1) }, 289, 288],
    ['codebook scales', { ...packed, codebookScales: new Float32Array(6) }, 6, 9],
  ])('%s of a length that does not follow from the layout', (what, damaged, found, expected) => {
    const error = thrownBy(() => unpackLayer(damaged))
    expect(error).toBeInstanceOf(ShapeError)
    expect((error as Error).message).toContain(`${what}: found ${found} elements`)
    expect((error as Error).message).toContain(`needs ${expected}`)
    expect((error as Error).message).toContain('5 x 10')
  })
})
