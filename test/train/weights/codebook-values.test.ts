import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { randomGenerator } from '../../../src/common/random.js'
import { columnGroupsOf, dequantizeLayer, rowGroupsOf } from '../../../src/packing/vq-layer.js'
import { addCodebookGradient } from '../../../src/train/weights/codebook-values.js'
import { plainLayouts, randomLayer, randomPermutation } from '../../packing/layers.js'

describe('addCodebookGradient', () => {
  it('adds how the weights answer to each codebook value, by finite differences, columns reordered or not', () => {
    fc.assert(
      fc.property(plainLayouts, fc.boolean(), fc.nat(1e6), (layout, isReordered, seed) => {
        // blocks that fill their group, as quantization makes them
        const scales = layout.scaleBlockSize && { scaleBlockSize: layout.columnsPerGroup }
        const plain = randomLayer({ ...layout, ...scales }, 8, seed)
        // 8-bit elements times 1: one step of an element is a step of 1 in its value
        const layer = {
          ...plain,
          codebooks: new Int8Array(plain.codebooks.length),
          codebookScales: plain.codebookScales.map(() => 1),
          ...(isReordered && { permutation: randomPermutation(plain.layout.cols, seed) }),
        }
        const random = randomGenerator(seed)
        const { rows, cols } = layer.layout
        const onWeights = Float32Array.from({ length: rows * cols }, () => random() - 0.5)
        const onCodebooks = new Float64Array(layer.codebooks.length).fill(3)
        addCodebookGradient(layer, onWeights, onCodebooks)
        const groups = rowGroupsOf(layer.layout) * columnGroupsOf(layer.layout)
        for (let trial = 0; trial < 4 * groups; trial++) {
          const at = Math.floor(random() * layer.codebooks.length)
          layer.codebooks[at] = 1
          const { data } = dequantizeLayer(layer)
          layer.codebooks[at] = 0
          const slope = data.reduce((sum, step, i) => sum + step * onWeights[i], 0)
          expect(onCodebooks[at] - 3).toBeCloseTo(slope, 6)
        }
      }),
    )
  })
})
