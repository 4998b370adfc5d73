import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ShapeError } from '../../src/common/errors.js'
import { type PackedLayer, packLayer, unpackLayer } from '../../src/packing/pack-layer.js'
import { dequantizeLayer, emptyLayer, type VqLayer } from '../../src/packing/vq-layer.js'
import { thrownBy } from '../support/tolerance.js'
import { layers, randomLayer } from './layers.js'

function bytesOf(array: ArrayBufferView): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength)
}

function expectSame(actual: VqLayer, expected: VqLayer): void {
  expect(actual.layout).toEqual(expected.layout)
  expect(actual.codebookBits).toBe(expected.codebookBits)
  expect(actual.blockScales?.ratio).toBe(expected.blockScales?.ratio)
  expect(actual.blockScales?.codes).toEqual(expected.blockScales?.codes)
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

describe('packed block scales', () => {
  const layout = { rows: 2, cols: 80, vectorDim: 2, bits: 2, columnsPerGroup: 80, rowsPerGroup: 2 }

  it('take 4 bits each, the first in the low half of a byte, rows on bytes of their own', () => {
    const layer = randomLayer({ ...layout, scaleBlockSize: 16 }, 8, 1)
    layer.blockScales?.codes.set([1, 2, 3, 4, 15, 6, 7, 8, 9, 10])
    const { blockScales } = packLayer(layer)
    expect(blockScales?.codes).toEqual(Uint8Array.of(0x21, 0x43, 0x0f, 0x76, 0x98, 0x0a))
    expect(blockScales?.ratio).toEqual(Float32Array.of(layer.blockScales?.ratio ?? 0))
  })

  it('are absent from a layer without, key and all', () => {
    expect(Object.keys(packLayer(randomLayer(layout, 8, 1)))).not.toContain('blockScales')
    expect(Object.keys(unpackLayer(packLayer(randomLayer(layout, 8, 1))))).not.toContain('blockScales')
  })

  it('are refused where they do not follow from the layout', () => {
    const scaled = { ...layout, scaleBlockSize: 32 }
    const packed = packLayer(randomLayer(scaled, 8, 1))
    const scales = packed.blockScales
    if (scales === undefined) throw new Error('expected scales')
    const cases: [PackedLayer, RegExp][] = [
      [{ ...packed, blockScales: undefined }, /block scales: found 0 elements, .* needs 4/],
      [
        { ...packed, blockScales: { ...scales, codes: new Uint8Array(5) } },
        /block scales: found 5 .* needs 4/,
      ],
      [
        { ...packed, blockScales: { ...scales, ratio: new Float32Array(2) } },
        /scale ratio: found 2 .* needs 1/,
      ],
      [{ ...packed, layout }, /block scales: found 4 elements, .* needs 0/],
    ]
    for (const [damaged, message] of cases) {
      const error = thrownBy(() => unpackLayer(damaged))
      expect(error).toBeInstanceOf(ShapeError)
      expect((error as Error).message).toMatch(message)
    }
    expect(() => dequantizeLayer({ ...randomLayer(scaled, 8, 1), blockScales: undefined })).toThrow(
      /block scales: found 0 codes, a 2 x 80 layer with scaleBlockSize 32 needs 6/,
    )
  })
})

describe('a packed layer with a trellis', () => {
  const widths = Uint8Array.of(4, 1, 6, 3, 6)
  const layout = {
    ...{ rows: 3, cols: 10, vectorDim: 2, bits: 2, columnsPerGroup: 4, rowsPerGroup: 2 },
    trellis: { keyBits: 6, widths },
  }
  const packed = packLayer(emptyLayer(layout, 8))
  const changed = (
    trellis: Partial<typeof layout.trellis>,
    others: Partial<PackedLayer> = {},
  ): PackedLayer => ({
    ...{ ...packed, layout: { ...layout, trellis: { ...layout.trellis, ...trellis } } },
    ...others,
  })

  it('is unpacked to finite weights', () => {
    expect(dequantizeLayer(unpackLayer(packed)).data.every(Number.isFinite)).toBe(true)
  })

  it.each<[string, PackedLayer, RegExp]>([
    [
      'keys of fewer bits than indices',
      changed({ keyBits: 3 }),
      /widths: found 4 bits in column 0.* 1 to the 3/,
    ],
    ['keys of more bits than the codebook has', changed({ keyBits: 16 }), /keyBits: found 16.* 1 to 12/],
    ['keys of no bits', changed({ keyBits: 0 }), /keyBits: found 0/],
    ['keys of a part of a bit', changed({ keyBits: 6.5 }), /keyBits: found 6\.5/],
    ['indices of no bits', changed({ widths: Uint8Array.of(4, 0, 6, 3, 6) }), /found 0 bits in column 1/],
    [
      'widths of too few columns',
      changed({ widths: widths.slice(1) }),
      /widths of the trellis: found 4 .*needs 5/,
    ],
    [
      'other widths than are stored',
      changed({ widths: Uint8Array.of(4, 1, 3, 6, 6) }),
      /column 2 has 3 .* 6 stored/,
    ],
    ['no stored widths', changed({}, { widths: undefined }), /stored widths: found 0 elements.* needs 3/],
    ['vectors of 5', { ...packed, layout: { ...layout, vectorDim: 5 } }, /widths|vectorDim/],
    [
      'stored widths without a trellis',
      { ...packed, layout: { ...layout, trellis: undefined } },
      /stored widths: found 3/,
    ],
  ])('is refused with %s', (_, damaged, message) => {
    const error = thrownBy(() => unpackLayer(damaged))
    expect(error).toBeInstanceOf(ShapeError)
    expect((error as Error).message).toMatch(message)
  })
})

describe('unpackLayer refuses', () => {
  const layout = { rows: 5, cols: 10, vectorDim: 2, bits: 2, columnsPerGroup: 4, rowsPerGroup: 2 }
  const packed = packLayer(randomLayer(layout, 8, 2))

  it.each<[string, PackedLayer, number, number]>([
    ['indices', { ...packed, indices: packed.indices.subarray(1) }, 14, 15],
    ['codebooks', { ...packed, codebooks: new Int8Array(9 * 32 + 1) }, 289, 288],
    ['codebook scales', { ...packed, codebookScales: new Uint16Array(6) }, 6, 9],
  ])('%s of a length that does not follow from the layout', (what, damaged, found, expected) => {
    const error = thrownBy(() => unpackLayer(damaged))
    expect(error).toBeInstanceOf(ShapeError)
    expect((error as Error).message).toContain(`${what}: found ${found} elements`)
    expect((error as Error).message).toContain(`needs ${expected}`)
    expect((error as Error).message).toContain('5 x 10')
  })
})
