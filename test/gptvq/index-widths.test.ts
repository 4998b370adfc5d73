import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { widthError } from '../../src/codebook/constant-codebook.js'
import { shareBits } from '../../src/gptvq/walk/index-widths.js'

/** The least loss of all ways to share out the bits. */
function leastLoss(importance: readonly number[], d: number, total: number, most: number): number {
  if (importance.length === 0) return total === 0 ? 0 : Number.POSITIVE_INFINITY
  const [first, ...rest] = importance
  let least = Number.POSITIVE_INFINITY
  for (let width = 1; width <= Math.min(most, total); width++) {
    least = Math.min(least, first * widthError(d, width) + leastLoss(rest, d, total - width, most))
  }
  return least
}

describe('the errors of the constant codebooks', () => {
  it('fall with every bit, by no more than with the one before: the best bits are found one by one', () => {
    for (const d of [1, 2, 4]) {
      for (let width = 1; width <= 10; width++) {
        const [first, second] = [width, width + 1].map((w) => widthError(d, w) - widthError(d, w + 1))
        expect(first).toBeGreaterThanOrEqual(second)
        expect(second).toBeGreaterThanOrEqual(0)
      }
    }
  })
})

describe('shareBits', () => {
  it('gives all bits, and loses least of all ways to share them out', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 4),
        fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 2, max: 6 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (d, importance, most, share) => {
          const total = importance.length + Math.round(share * (most - 1) * importance.length)
          const widths = shareBits(Float64Array.from(importance), d, total, most)
          expect(widths.reduce((sum, width) => sum + width, 0)).toBe(total)
          for (const width of widths) expect(width >= 1 && width <= most).toBe(true)
          const loss = importance.reduce((sum, value, i) => sum + value * widthError(d, widths[i]), 0)
          expect(loss).toBeLessThanOrEqual(leastLoss(importance, d, total, most) * (1 + 1e-12))
        },
      ),
    )
  })

  it('gives columns of one importance about the same', () => {
    const widths = shareBits(new Float64Array(10).fill(3), 2, 45, 12)
    expect([...widths].sort()).toEqual([4, 4, 4, 4, 4, 5, 5, 5, 5, 5])
  })
})
