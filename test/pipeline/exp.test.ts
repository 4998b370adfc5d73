import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { expOfNegative } from '../../src/pipeline/exp.js'

describe('expOfNegative', () => {
  it('equals Math.exp within two units in the last place', () => {
    const property = fc.property(fc.double({ min: -700, max: 0, noNaN: true }), (x) => {
      expect(Math.abs(expOfNegative(x) / Math.exp(x) - 1)).toBeLessThanOrEqual(2 * Number.EPSILON)
    })
    fc.assert(property, { numRuns: 5000 })
    for (let x = -40; x < 0; x += 0.001) {
      expect(Math.abs(expOfNegative(x) / Math.exp(x) - 1)).toBeLessThanOrEqual(2 * Number.EPSILON)
    }
  })

  it('is exactly 1 at 0, and 0 where nothing is left', () => {
    expect(expOfNegative(0)).toBe(1)
    expect(expOfNegative(-1e-300)).toBe(1)
    expect(expOfNegative(-701)).toBe(0)
    expect(expOfNegative(Number.NEGATIVE_INFINITY)).toBe(0)
  })
})
