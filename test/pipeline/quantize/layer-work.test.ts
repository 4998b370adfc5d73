import { describe, expect, it } from 'vitest'
import { type Matrix, matrix } from '../../../src/common/matrix.js'
import { quantizeLayer } from '../../../src/gptvq/quantize-layer.js'
import { reconstructionError } from '../../../src/gptvq/reconstruction-error.js'
import { dequantize } from '../../../src/packing/quantized-layer.js'
import type { InputStatistics } from '../../../src/pipeline/calibrate/statistics/stage-sums.js'
import { quantizeHere } from '../../../src/pipeline/quantize/layers/layer-work.js'
import { resolveMethod } from '../../../src/pipeline/quantize/quantize-options.js'
import { gaussianMatrix, hessianOf } from '../../support/random-matrix.js'

const cols = 32
const mixing = gaussianMatrix(cols, cols, 1)

/** Tokens with correlated features. */
function drawTokens(count: number, seed: number): Matrix {
  const { data: normals } = gaussianMatrix(count, cols, seed)
  const tokens = matrix(count, cols)
  for (let t = 0; t < count; t++) {
    for (let i = 0; i < cols; i++) {
      for (let j = 0; j < cols; j++) {
        tokens.data[t * cols + i] += normals[t * cols + j] * mixing.data[j * cols + i] * 0.95 ** j
      }
    }
  }
  return tokens
}

describe('an expert’s layer', () => {
  const unseen = hessianOf(drawTokens(4000, 2))
  const weights = Array.from({ length: 4 }, (_, seed) => gaussianMatrix(64, cols, 10 + seed))
  const quantized = (weight: Matrix, inputs: InputStatistics) =>
    quantizeHere({ name: 'expert', weight, inputs, settings: resolveMethod('gptvq', {}), driftShare: 0 }, {})

  it.each([0, 6])(
    'refined on a Hessian of a pool of few tokens, %i of them its own, loses less on other tokens than undamped',
    async (tokens) => {
      const losses = { damped: 0, undamped: 0 }
      for (const [seed, weight] of weights.entries()) {
        const hessian = hessianOf(drawTokens(16, 20 + seed))
        const { layer } = await quantized(weight, { hessian, tokens, pooled: 1 })
        const undamped = await quantizeLayer(weight, hessian)
        losses.damped += reconstructionError(weight, dequantize(layer), unseen).relative
        losses.undamped += reconstructionError(weight, dequantize(undamped), unseen).relative
      }
      expect(losses.damped).toBeLessThan(0.95 * losses.undamped)
    },
  )

  it('that has seen enough tokens is refined on its Hessian as it is', async () => {
    const hessian = hessianOf(drawTokens(2 * cols, 3))
    const { layer } = await quantized(weights[0], { hessian, tokens: 2 * cols, pooled: 0.1 })
    expect(layer).toEqual(await quantizeLayer(weights[0], hessian))
  })
})
