import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { widthFactor } from '../../src/codebook/constant-codebook.js'
import { halfToFloat } from '../../src/kernels/half.js'
import {
  decodeBlockScales,
  decodeCodebooks,
  dequantizeLayer,
  lookUp,
  type VqLayer,
} from '../../src/packing/vq-layer.js'
import { layers, randomLayer } from './layers.js'

/** The scale of a code by its definition: float32 products, one after the other. */
function levelOf(code: number, ratio: number): number {
  return code === 0 ? 1 : Math.fround(levelOf(code - 1, ratio) * ratio)
}

/** The weight at (row, column), found from the layer's stored arrays one at a time. */
function weightAt(layer: VqLayer, row: number, column: number): number {
  const { rowsPerGroup, columnsPerGroup, cols, vectorDim, bits, scaleBlockSize, trellis } = layer.layout
  const groupsAcross = Math.ceil(cols / columnsPerGroup)
  const group = Math.floor(row / rowsPerGroup) * groupsAcross + Math.floor(column / columnsPerGroup)
  const vector = row * Math.ceil(cols / vectorDim) + Math.floor(column / vectorDim)
  // with a trellis all groups have one codebook
  const codebook = trellis === undefined ? group * 2 ** (bits * vectorDim) : 0
  const centroid = codebook + layer.indices[vector]
  const element = layer.codebooks[centroid * vectorDim + (column % vectorDim)]
  const value = layer.codebookBits === 8 ? element : halfToFloat(element)
  const factor = trellis ? widthFactor(vectorDim, trellis.widths[Math.floor(column / vectorDim)]) : 1
  const weight = Math.fround(value * layer.codebookScales[group] * factor)
  if (scaleBlockSize === undefined || layer.blockScales === undefined) return weight
  const { codes, ratio } = layer.blockScales
  const block = row * Math.ceil(cols / scaleBlockSize) + Math.floor(column / scaleBlockSize)
  return Math.fround(weight * levelOf(codes[block], ratio))
}

describe('dequantizeLayer', () => {
  it('looks every weight up in the codebook of its group and scales it by its block, for layouts of any raggedness', () => {
    fc.assert(
      fc.property(layers, (layer) => {
        const { rows, cols } = layer.layout
        const weights = dequantizeLayer(layer)
        expect([weights.rows, weights.cols]).toEqual([rows, cols])
        const expected = Float32Array.from({ length: rows * cols }, (_, i) =>
          weightAt(layer, Math.floor(i / cols), i % cols),
        )
        expect(weights.data).toEqual(expected)
      }),
      { numRuns: 300 },
    )
  })

  it('reaches all 65536 centroids of a codebook', () => {
    const layout = { rows: 4, cols: 8, vectorDim: 4, bits: 4, columnsPerGroup: 8, rowsPerGroup: 2 }
    const layer = randomLayer(layout, 16, 1)
    layer.indices.set([65535, 0, 32768, 65535, 65535, 65535, 1, 65534])
    const { data } = dequantizeLayer(layer)
    for (let i = 0; i < 32; i++) expect(data[i]).toBe(weightAt(layer, Math.floor(i / 8), i % 8))
  })
})

describe('lookUp', () => {
  it('gives some rows of the layer as dequantizeLayer gives all', () => {
    fc.assert(
      fc.property(layers, fc.nat(), fc.nat(), (layer, one, other) => {
        const { rows, cols } = layer.layout
        const [first, last] = [one % (rows + 1), other % (rows + 1)].sort((a, b) => a - b)
        const target = new Float32Array((last - first) * cols)
        lookUp(
          layer.layout,
          layer.indices,
          decodeCodebooks(layer),
          decodeBlockScales(layer),
          first,
          last,
          target,
        )
        expect(target).toEqual(dequantizeLayer(layer).data.slice(first * cols, last * cols))
      }),
    )
  })
})

describe('decodeCodebooks', () => {
  it('multiplies each element by the scale of its own group', () => {
    const codebooks = Int8Array.of(1, -2, 127, -127, 0, 5)
    const codebookScales = Float32Array.of(0.5, 2, -3)
    expect([...decodeCodebooks({ codebooks, codebookScales })]).toEqual([0.5, -1, 254, -254, -0, -15])
  })
})
