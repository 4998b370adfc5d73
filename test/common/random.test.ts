import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { deriveSeed, randomGenerator, randomNormal } from '../../src/common/random.js'

const take = (count: number, next: () => number) => Array.from({ length: count }, next)
const seeds = fc.integer({ min: 0, max: 2 ** 32 - 1 })

describe('randomGenerator', () => {
  it('gives the same numbers for the same seed', () => {
    fc.assert(
      fc.property(fc.nat(Number.MAX_SAFE_INTEGER), (seed) => {
        expect(take(20, randomGenerator(seed))).toEqual(take(20, randomGenerator(seed)))
      }),
    )
  })

  it('gives other numbers for neighbouring seeds, and for seeds that differ above 32 bits', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const first = take(4, randomGenerator(seed))
        expect(take(4, randomGenerator(seed + 1))).not.toEqual(first)
        expect(take(4, randomGenerator(seed + 5 * 2 ** 32))).not.toEqual(first)
      }),
    )
  })

  it('fills [0, 1) evenly: 100 bins of 100000 draws pass a chi-square test at 6 standard deviations', () => {
    for (const seed of [0, 1, 2, 12345]) {
      const counts = new Array<number>(100).fill(0)
      for (const value of take(100_000, randomGenerator(seed))) counts[Math.floor(value * 100)]++
      expect(counts).toHaveLength(100)
      const chiSquare = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0)
      // 99 degrees of freedom: mean 99, standard deviation sqrt(198)
      expect(Math.abs(chiSquare - 99)).toBeLessThan(6 * Math.sqrt(198))
    }
  })

  it('has no correlation between successive numbers, nor between the streams of successive seeds', () => {
    const [one, two] = [take(100_000, randomGenerator(7)), take(100_000, randomGenerator(8))]
    const correlation = (x: number[], y: number[]) =>
      (12 * x.reduce((sum, value, i) => sum + (value - 0.5) * (y[i] - 0.5), 0)) / x.length
    expect(Math.abs(correlation(one.slice(0, -1), one.slice(1)))).toBeLessThan(0.02)
    expect(Math.abs(correlation(one, two))).toBeLessThan(0.02)
  })
})

describe('randomNormal', () => {
  it('has the moments of the standard normal distribution, and is always finite', () => {
    const random = randomGenerator(3)
    const draws = take(200_000, () => randomNormal(random))
    const moment = (power: number) => draws.reduce((sum, x) => sum + x ** power, 0) / draws.length
    expect(draws.every(Number.isFinite)).toBe(true)
    expect(Math.abs(moment(1))).toBeLessThan(0.02)
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.03)
    expect(Math.abs(moment(3))).toBeLessThan(0.06)
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.2)
  })

  it('stays finite at the ends of the uniform range', () => {
    expect(Math.abs(randomNormal(() => 0))).toBe(0)
    expect(Number.isFinite(randomNormal(() => 1 - 2 ** -32))).toBe(true)
  })
})

describe('deriveSeed', () => {
  it('is a whole number of 32 bits, the same every time', () => {
    fc.assert(
      fc.property(fc.nat(Number.MAX_SAFE_INTEGER), fc.array(fc.integer()), (seed, path) => {
        const derived = deriveSeed(seed, ...path)
        expect(derived).toBe(derived >>> 0)
        expect(deriveSeed(seed, ...path)).toBe(derived)
      }),
    )
  })

  it('gives every item of a 60 x 60 grid its own seed, also where the items are exchanged', () => {
    const derived = new Set<number>()
    for (let i = 0; i < 60; i++) for (let j = 0; j < 60; j++) derived.add(deriveSeed(1, i, j))
    expect(derived.size).toBe(3600)
  })

  it('turns over about half of its bits when one bit of the seed or of the path changes', () => {
    const bitsSet = (value: number) => value.toString(2).replaceAll('0', '').length
    let flipped = 0
    let trials = 0
    for (let base = 0; base < 200; base++) {
      for (let bit = 0; bit < 31; bit += 3) {
        const from = deriveSeed(base, 3)
        flipped += bitsSet((from ^ deriveSeed(base ^ (1 << bit), 3)) >>> 0)
        flipped += bitsSet((from ^ deriveSeed(base, 3 ^ (1 << bit))) >>> 0)
        trials += 2
      }
    }
    expect(flipped / trials).toBeGreaterThan(15.5)
    expect(flipped / trials).toBeLessThan(16.5)
  })

  it('depends on the length of the path', () => {
    expect(new Set([deriveSeed(5), deriveSeed(5, 0), deriveSeed(5, 0, 0)]).size).toBe(3)
  })
})
