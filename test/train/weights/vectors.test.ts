import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import { packLayer, unpackLayer } from '../../../src/packing/pack-layer.js'
import { centroidsOf, dequantizeLayer, type VqLayer, vectorsPerRow } from '../../../src/packing/vq-layer.js'
import { trainableCodebooks } from '../../../src/train/weights/codebooks.js'
import { nearestIndices } from '../../../src/train/weights/nearest-indices.js'
import type { Trainable } from '../../../src/train/weights/trainable.js'
import { trainableTrellis } from '../../../src/train/weights/trellis.js'
import { layers, plainLayers, randomLayer, randomPermutation } from '../../packing/layers.js'

const normals = (length: number, seed: number) => {
  const random = randomGenerator(seed)
  return Float32Array.from({ length }, () => randomNormal(random))
}

const trellisLayers = layers.filter(({ layout }) => layout.trellis !== undefined)

/** Layers as they are quantized: a block with a scale is whole vectors of one group. */
const isWhole = ({ layout: { vectorDim, columnsPerGroup, scaleBlockSize } }: VqLayer) =>
  scaleBlockSize === undefined || (columnsPerGroup % scaleBlockSize === 0 && scaleBlockSize % vectorDim === 0)

const squares = (a: Float32Array, b: Float32Array) =>
  a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0)

describe('a layer with a trellis in training', () => {
  const wholeLayers = trellisLayers.filter(isWhole)

  it('starts as it was given, and stays so while nothing moves', () => {
    fc.assert(
      fc.property(wholeLayers, (layer) => {
        const trainable = trainableTrellis(layer, { indexRate: 1 })
        trainable.refresh()
        expect(trainable.layer!()).toEqual(layer)
        expect(trainable.values()).toEqual(dequantizeLayer(layer).data)
      }),
    )
  })

  it('has the slopes that its scales give, with their rounding held fixed', () => {
    fc.assert(
      fc.property(wholeLayers, fc.nat(1e6), fc.boolean(), (given, seed, reorders) => {
        const { cols, rows } = given.layout
        const layer = reorders ? { ...given, permutation: randomPermutation(cols, seed) } : given
        const trainable = trainableTrellis(layer, { indexRate: 0 })
        const slopes = normals(rows * cols, seed)
        const gradients = trainable.parameters.map(({ values }) => new Float32Array(values.length))
        trainable.addGradient(slopes, gradients)
        // each scale alone, by a step that its stored form holds: a group twice as large, a block one code further
        const lossOf = (of: VqLayer) =>
          dequantizeLayer(of).data.reduce((sum, weight, i) => sum + weight * slopes[i], 0)
        const base = lossOf(layer)
        const size = 1e-4 * (1 + dequantizeLayer(layer).data.reduce((sum, w) => sum + Math.abs(w), 0))
        for (let group = 0; group < layer.codebookScales.length; group++) {
          const codebookScales = layer.codebookScales.slice()
          codebookScales[group] *= 2
          const twice = lossOf({ ...layer, codebookScales })
          expect(Math.abs(gradients[0][group] - (twice - base))).toBeLessThan(size)
        }
        const { blockScales } = layer
        if (blockScales === undefined) return
        for (let block = 0; block < blockScales.codes.length; block++) {
          const codes = blockScales.codes.slice()
          if (codes[block] === 15) continue
          codes[block]++
          const further = lossOf({ ...layer, blockScales: { ...blockScales, codes } })
          // the block's part of the loss is proportional to ratio^code
          const part = (further - base) / (blockScales.ratio - 1)
          expect(Math.abs(gradients[1][block] - part * Math.log(blockScales.ratio))).toBeLessThan(
            size / (1 - blockScales.ratio),
          )
        }
      }),
      { numRuns: 40 },
    )
  })

  it('is stored as it runs, wherever its scales are', () => {
    fc.assert(
      fc.property(wholeLayers, fc.nat(1e6), (layer, seed) => {
        const trainable = trainableTrellis(layer, { indexRate: 1 })
        shake(trainable, seed)
        trainable.choices!.rechoose()
        const stored = trainable.layer!() as VqLayer
        expect(unpackLayer(packLayer(stored))).toEqual(stored)
        expect(trainable.values()).toEqual(dequantizeLayer(stored).data)
      }),
      { numRuns: 40 },
    )
  })
})

describe('indices chosen anew', () => {
  it('bring a layer as near to its weights as any could: brute force over single vectors', () => {
    fc.assert(
      fc.property(plainLayers.filter(isWhole), fc.nat(1e6), (layer, seed) => {
        const { rows, cols, vectorDim: d } = layer.layout
        const weights = normals(rows * cols, seed)
        const chosen = { ...layer, indices: nearestIndices(layer, weights) }
        const best = new Float64Array(rows * vectorsPerRow(layer.layout)).fill(Number.POSITIVE_INFINITY)
        for (let k = 0; k < centroidsOf(layer.layout); k++) {
          const all = dequantizeLayer({ ...layer, indices: layer.indices.slice().fill(k) }).data
          forEachVector(layer, (vector, at, width) => {
            const error = squares(all.subarray(at, at + width), weights.subarray(at, at + width))
            best[vector] = Math.min(best[vector], error)
          })
        }
        const found = dequantizeLayer(chosen).data
        forEachVector(layer, (vector, at, width) => {
          const error = squares(found.subarray(at, at + width), weights.subarray(at, at + width))
          expect(error).toBeLessThanOrEqual(best[vector] * (1 + 1e-5) + 1e-6 * d)
        })
      }),
      { numRuns: 30 },
    )
  })

  it('find the best paths of a trellis: brute force over all streams of a short column', () => {
    const layout = { rows: 3, cols: 2, vectorDim: 2, bits: 1, columnsPerGroup: 2, rowsPerGroup: 3 }
    const trellis = { keyBits: 5, widths: Uint8Array.of(2) }
    for (let seed = 0; seed < 20; seed++) {
      const layer = randomLayer({ ...layout, trellis }, 8, seed)
      layer.codebookScales.fill(1 / 64)
      const weights = normals(6, seed)
      let best = Number.POSITIVE_INFINITY
      for (let stream = 0; stream < 64; stream++) {
        const indices = Uint16Array.of(stream & 3, stream & 15, stream & 31)
        // the index of the last row is what came last: keys are built from the first row on
        indices[0] = stream >> 4
        indices[1] = ((indices[0] << 2) | ((stream >> 2) & 3)) & 31
        indices[2] = ((indices[1] << 2) | (stream & 3)) & 31
        best = Math.min(best, squares(dequantizeLayer({ ...layer, indices }).data, weights))
      }
      const indices = nearestIndices(layer, weights)
      const found = squares(dequantizeLayer({ ...layer, indices }).data, weights)
      expect(found).toBeLessThanOrEqual(best * (1 + 1e-5))
    }
  })

  it('are those of the layer itself for the weights that it stands for', () => {
    fc.assert(
      fc.property(layers.filter(isWhole), (layer) => {
        const weights = dequantizeLayer(layer).data
        const again = { ...layer, indices: nearestIndices(layer, weights) }
        expect(squares(dequantizeLayer(again).data, weights)).toBeLessThan(
          1e-6 *
            (1 +
              squares(
                weights,
                weights.map(() => 0),
              )),
        )
      }),
    )
  })

  it('follow weights that moved, in the order of the columns that the model has', () => {
    const layer = { ...randomLayer(plainLayout, 8, 3), permutation: randomPermutation(8, 4) }
    const trainable = trainableCodebooks(layer, { indexRate: 1 })
    const [, weights] = trainable.parameters
    const moves = normals(weights.values.length, 5).map((move) => 60 * move)
    trainable.addGradient(moves, [new Float64Array(layer.codebooks.length), weights.values])
    const wanted = Float32Array.from(weights.values)
    const before = squares(trainable.values(), wanted)
    trainable.choices!.rechoose()
    expect(squares(trainable.values(), wanted)).toBeLessThan(before)
  })
})

const plainLayout = {
  ...{ rows: 4, cols: 8, vectorDim: 2, bits: 2, columnsPerGroup: 8, rowsPerGroup: 4 },
}

function forEachVector({ layout }: VqLayer, use: (vector: number, at: number, width: number) => void): void {
  const { rows, cols, vectorDim: d } = layout
  const perRow = vectorsPerRow(layout)
  for (let r = 0; r < rows; r++) {
    for (let v = 0; v < perRow; v++) use(r * perRow + v, r * cols + v * d, Math.min(d, cols - v * d))
  }
}

function shake(trainable: Trainable, seed: number): void {
  for (const { values } of trainable.parameters) {
    const moves = normals(values.length, seed + values.length)
    for (let i = 0; i < values.length; i++) values[i] += moves[i]
  }
  trainable.refresh()
}
