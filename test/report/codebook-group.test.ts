import { expect, test } from 'vitest'
import { quantizeLayer } from '../../src/gptvq/quantize-layer.js'
import { dequantizeLayer } from '../../src/packing/vq-layer.js'
import { codebookGroup } from '../../src/report/codebooks/codebook-group.js'
import { groupCoding } from '../../src/report/codebooks/group-coding.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'

test('of a trellis tells the bits of its indices, and what stands for each weight', async () => {
  const layer = await quantizeLayer(gaussianMatrix(40, 128, 1), randomHessian(128, 300, 2), { bpv: 2.5 })
  const { trellis, weights, ...group } = codebookGroup(layer, 0, dequantizeLayer(layer))
  expect(trellis!.bits).toBe(layer.layout.bits)
  // of the weights that the layer stands for, over scales and factors, nothing but the centroids is left
  expect(weights!.length).toBe(40 * 128)
  for (const [i, value] of weights!.entries()) expect(value).toBeCloseTo(trellis!.coded![i], 5)
  const { bits, gridBits, snr } = groupCoding({ ...group, weights, trellis })
  expect(bits).toMatch(/^2\.\d+ bits per weight by a trellis$/)
  expect(gridBits).toBe(2)
  expect(snr).toBeGreaterThan(100)
})
