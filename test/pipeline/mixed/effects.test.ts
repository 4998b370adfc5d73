import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { predictEffects } from '../../../src/pipeline/mixed/effects.js'

const factor = fc.double({ min: 0.01, max: 100, noNaN: true })

describe('predictEffects', () => {
  it('gives back what was measured where it is a factor of the layer times a factor of the bits', () => {
    const layer = fc.record({ ofLayer: factor, errors: fc.array(factor, { minLength: 3, maxLength: 3 }) })
    const problem = fc.tuple(
      fc.array(layer, { minLength: 1, maxLength: 6 }),
      fc.array(factor, { minLength: 3, maxLength: 3 }),
    )
    fc.assert(
      fc.property(problem, ([layers, ofBits]) => {
        const effects = predictEffects(
          layers.map(({ ofLayer, errors }) => ({
            errors: errors.map((error) => [error, error / 2]),
            ratios: ofBits.map((bits) => bits * ofLayer),
          })),
        )
        for (const [i, { ofLayer, errors }] of layers.entries()) {
          for (const [bits, error] of errors.entries()) {
            const effect = ofLayer * ofBits[bits] * error
            expect(effects[i][bits][0] / effect).toBeCloseTo(1, 9)
            expect(effects[i][bits][1] / effect).toBeCloseTo(1 / 2, 9)
          }
        }
      }),
    )
  })

  it('averages noise out: no layer’s ratio follows a single trial', () => {
    const errors = [[1], [1], [1], [1]]
    const quiet = { errors, ratios: [1, 1, 1, 1] }
    const [noisy] = predictEffects([{ errors, ratios: [3, 1, 1, 1] }, ...Array(9).fill(quiet)])
    expect(noisy[0][0]).toBeLessThan(2)
    expect(noisy[1][0]).toBeGreaterThan(1)
  })

  it('copes with layers that have fewer candidates, no error, or no effect', () => {
    const effects = predictEffects([
      { errors: [[1], [1]], ratios: [2, 4] },
      { errors: [[3]], ratios: [2] },
      { errors: [[0], [5]], ratios: [undefined, 4] },
      { errors: [[7], [5]], ratios: [0, 0] },
    ])
    expect(effects.flat(2).every((effect) => Number.isFinite(effect))).toBe(true)
    expect(effects[1][0][0]).toBeGreaterThan(0)
    expect(effects[2][0]).toEqual([0])
    expect(effects[3]).toEqual([[0], [0]])
  })
})
