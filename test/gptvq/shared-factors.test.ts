import { describe, expect, it } from 'vitest'
import { quantizeGptq } from '../../src/baselines/gptq.js'
import { correctDrift, type DriftHalves } from '../../src/gptvq/drift-correction.js'
import type { VqOptions } from '../../src/gptvq/options.js'
import { quantizeLayer } from '../../src/gptvq/quantize-layer.js'
import { type SharedFactors, shareFactors } from '../../src/hessian/inverse-factor.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'

const COLS = 48
const hessian = randomHessian(COLS, 200, 1)
const weights = [16, 8, 8].map((rows, i) => gaussianMatrix(rows, COLS, 2 + i))

/** Shares factors and counts those that are made. */
function counted(): { factors: SharedFactors; made: () => number } {
  const share = shareFactors()
  let made = 0
  return {
    factors: (name, make) =>
      share(name, () => {
        made++
        return make()
      }),
    made: () => made,
  }
}

describe('layers that share a Hessian', () => {
  const settings: readonly VqOptions[] = [
    { columnsPerGroup: 16 },
    { columnsPerGroup: 16, columnOrder: 'activation', damping: 0.3 },
    { columnsPerGroup: 16, trellisBits: 0, groupSize: 256, vectorDim: 4, bits: 1 },
  ]

  it.each(settings)('are the layers of factors of their own, and one factor is made: %o', async (options) => {
    const { factors, made } = counted()
    for (const weight of weights) {
      const shared = await quantizeLayer(weight, hessian, { ...options, factors })
      expect(shared).toEqual(await quantizeLayer(weight, hessian, options))
    }
    expect(made()).toBe(1)
  })

  it('share no factor of another damping, order or padding', async () => {
    const { factors, made } = counted()
    const odd = randomHessian(COLS - 1, 200, 1)
    const oddWeight = gaussianMatrix(8, COLS - 1, 3)
    const different: VqOptions[] = [{}, { damping: 0.2 }, { columnOrder: 'activation' }]
    for (const options of different) await quantizeLayer(weights[0], hessian, { ...options, factors })
    expect(made()).toBe(3)
    const other = counted()
    for (const vectorDim of [1, 2] as const) {
      const shared = await quantizeLayer(oddWeight, odd, { vectorDim, factors: other.factors })
      expect(shared).toEqual(await quantizeLayer(oddWeight, odd, { vectorDim }))
    }
    expect(other.made()).toBe(2)
  })

  it('correct drift and round by GPTQ with one factor each', async () => {
    const drift = (seed: number) => ({ tokens: 100, input: gaussianMatrix(COLS, COLS, seed) })
    const halves: DriftHalves = [drift(7), drift(8)]
    const { factors, made } = counted()
    for (const weight of weights) {
      expect(await correctDrift(weight, hessian, halves, { factors })).toEqual(
        await correctDrift(weight, hessian, halves),
      )
      expect(await quantizeGptq(weight, hessian, { bits: 3, groupSize: 16, factors })).toEqual(
        await quantizeGptq(weight, hessian, { bits: 3, groupSize: 16 }),
      )
    }
    expect(made()).toBe(2)
  })
})
