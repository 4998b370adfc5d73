import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { CodebookBits } from '../../src/codebook/store-codebook.js'
import { bitsPerValue, packedBytes } from '../../src/packing/bits-per-value.js'
import { packLayer } from '../../src/packing/pack-layer.js'
import { packScalar } from '../../src/packing/scalar-layer.js'
import { emptyLayer } from '../../src/packing/vq-layer.js'
import { layers } from './layers.js'
import { scalarLayers } from './scalar-layers.js'

describe('bitsPerValue', () => {
  it('is log2(k)/d + k d codebookBits / groupWeights + 16 / groupWeights where shapes divide', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 4),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom<CodebookBits>(8, 16),
        fc.record({
          rowGroups: fc.integer({ min: 1, max: 4 }),
          columnGroups: fc.integer({ min: 1, max: 4 }),
          rowsPerGroup: fc.integer({ min: 1, max: 9 }),
          columnBlocks: fc.integer({ min: 1, max: 4 }),
        }),
        (vectorDim, anyBits, codebookBits, { rowGroups, columnGroups, rowsPerGroup, columnBlocks }) => {
          const bits = Math.min(anyBits, 8 / vectorDim)
          const columnsPerGroup = 32 * columnBlocks
          const [rows, cols] = [rowGroups * rowsPerGroup, columnGroups * columnsPerGroup]
          const layout = { rows, cols, vectorDim, bits, columnsPerGroup, rowsPerGroup }
          const k = 2 ** (bits * vectorDim)
          const groupWeights = rowsPerGroup * columnsPerGroup
          const counted = bitsPerValue(packLayer(emptyLayer(layout, codebookBits)))
          expect(counted.index).toBeCloseTo(Math.log2(k) / vectorDim, 12)
          expect(counted.codebook).toBeCloseTo((k * vectorDim * codebookBits) / groupWeights, 12)
          expect(counted.scale).toBeCloseTo(16 / groupWeights, 12)
          expect(counted.other).toBe(0)
        },
      ),
    )
  })

  it('is always the bytes of the packed arrays times 8 over the number of weights', () => {
    fc.assert(
      fc.property(layers, (layer) => {
        const packed = packLayer(layer)
        const { indices, codebooks, codebookScales, blockScales, widths } = packed
        const scales = codebookScales.byteLength + (blockScales ? blockScales.codes.byteLength + 4 : 0)
        const bytes = indices.byteLength + codebooks.byteLength + scales + (widths?.byteLength ?? 0)
        const { index, codebook, scale, other, total } = bitsPerValue(packed)
        const weights = layer.layout.rows * layer.layout.cols
        expect(packedBytes(packed)).toBe(bytes)
        expect(total).toBeCloseTo((8 * bytes) / weights, 9)
        expect(total).toBeCloseTo(index + codebook + scale + other, 9)
        expect(index).toBeCloseTo((8 * indices.byteLength) / weights, 9)
        expect(scale).toBeCloseTo((8 * scales) / weights, 9)
      }),
    )
  })

  it('of block scales is 4 / scaleBlockSize and a ratio per layer, where blocks fill bytes', () => {
    const layout = { rows: 64, cols: 256, vectorDim: 2, bits: 2, columnsPerGroup: 256, rowsPerGroup: 16 }
    const plain = bitsPerValue(packLayer(emptyLayer(layout, 8)))
    for (const scaleBlockSize of [16, 32, 64, 128]) {
      const scaled = bitsPerValue(packLayer(emptyLayer({ ...layout, scaleBlockSize }, 8)))
      expect(scaled.scale - plain.scale).toBeCloseTo(4 / scaleBlockSize + 32 / (64 * 256), 12)
      expect(scaled.total - plain.total).toBeCloseTo(scaled.scale - plain.scale, 12)
    }
  })

  it('counts codes, half scales and zero points of a scalar layer', () => {
    fc.assert(
      fc.property(scalarLayers, (layer) => {
        const packed = packScalar(layer)
        const weights = layer.rows * layer.cols
        const { index, codebook, scale, other, total } = bitsPerValue(packed)
        expect(codebook).toBe(0)
        expect(index).toBeCloseTo((8 * packed.codes.byteLength) / weights, 9)
        expect(scale).toBeCloseTo((8 * packed.scales.byteLength) / weights, 9)
        expect(other).toBeCloseTo((8 * packed.zeros.byteLength) / weights, 9)
        expect(total).toBeCloseTo((8 * packedBytes(packed)) / weights, 9)
      }),
    )
  })

  it('of a scalar layer is bits + (16 + bits) / groupSize where shapes divide', () => {
    for (const bits of [1, 2, 3, 4, 8]) {
      const [rows, cols, groupSize] = [16, 256, 128]
      const scales = new Uint16Array(32)
      const layer = {
        rows,
        cols,
        bits,
        groupSize,
        codes: new Uint8Array(4096),
        scales,
        zeros: new Uint8Array(32),
      }
      expect(bitsPerValue(packScalar(layer)).total).toBeCloseTo(bits + (16 + bits) / groupSize, 12)
    }
  })
})
