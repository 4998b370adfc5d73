import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { allocate, type Choice } from '../../../src/pipeline/mixed/allocation.js'

const partsOf = (mostBytes: number, unit = 1) =>
  fc.array(
    fc.array(
      fc.record({
        bytes: fc.integer({ min: 1, max: mostBytes }).map((bytes) => bytes * unit),
        effect: fc.double({ min: 0, max: 10, noNaN: true }),
      }),
      { minLength: 1, maxLength: 5 },
    ),
    { minLength: 1, maxLength: 5 },
  )

const leastBytes = (parts: readonly (readonly Choice[])[]) =>
  parts.reduce((sum, choices) => sum + Math.min(...choices.map(({ bytes }) => bytes)), 0)

function totals(parts: readonly (readonly Choice[])[], chosen: readonly number[]) {
  const taken = parts.map((choices, part) => choices[chosen[part]])
  return {
    bytes: taken.reduce((sum, { bytes }) => sum + bytes, 0),
    effect: taken.reduce((sum, { effect }) => sum + effect, 0),
  }
}

/** The least sum of effects of all combinations within the budget. */
function bruteForce(parts: readonly (readonly Choice[])[], budget: number): number {
  if (parts.length === 0) return budget >= 0 ? 0 : Number.POSITIVE_INFINITY
  const [first, ...rest] = parts
  return Math.min(...first.map(({ bytes, effect }) => effect + bruteForce(rest, budget - bytes)))
}

describe('allocate', () => {
  it('finds the least sum of effects within the budget, as trying all combinations does', () => {
    fc.assert(
      fc.property(partsOf(12), fc.integer({ min: 0, max: 60 }), (parts, budget) => {
        const chosen = allocate(parts, budget)
        const best = bruteForce(parts, budget)
        expect(chosen === undefined).toBe(best === Number.POSITIVE_INFINITY)
        if (chosen === undefined) return
        const { bytes, effect } = totals(parts, chosen)
        expect(bytes).toBeLessThanOrEqual(budget)
        expect(effect).toBeCloseTo(best, 12)
      }),
      { numRuns: 500 },
    )
  })

  it('counts in the greatest common divisor: large multiples of small bytes lose nothing', () => {
    const unit = 3 * 2 ** 20
    fc.assert(
      fc.property(partsOf(12, unit), fc.integer({ min: 0, max: 60 }), (parts, budget) => {
        const chosen = allocate(parts, (budget + 0.9) * unit)
        const best = bruteForce(parts, (budget + 0.9) * unit)
        expect(chosen === undefined).toBe(best === Number.POSITIVE_INFINITY)
        if (chosen !== undefined) expect(totals(parts, chosen).effect).toBeCloseTo(best, 12)
      }),
    )
  })

  it('keeps within the budget where bytes have to be rounded, and leaves less than a step per part unused', () => {
    fc.assert(
      fc.property(partsOf(2 ** 33), fc.double({ min: 0, max: 1, noNaN: true }), (parts, share) => {
        const least = leastBytes(parts)
        const room = share * parts.length * 2 ** 33
        const { bytes, effect } = totals(parts, allocate(parts, least + room)!)
        expect(bytes).toBeLessThanOrEqual(least + room)
        const lost = parts.length * (room / 2 ** 18 + 1)
        expect(effect).toBeLessThanOrEqual(bruteForce(parts, least + room - lost) + 1e-9)
      }),
    )
  })

  it('says so when even the least bytes exceed the budget', () => {
    const parts = [[{ bytes: 3, effect: 1 }], [{ bytes: 4, effect: 1 }]]
    expect(allocate(parts, 6.99)).toBeUndefined()
    expect(allocate(parts, 7)).toEqual([0, 0])
  })
})
