import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { findRange, rangeSearches } from '../../src/activations/find-range.js'
import { histogramCounter } from '../../src/activations/histogram.js'
import { activationGrid, roundActivations } from '../../src/activations/rounding.js'
import { randomGenerator, randomNormal } from '../../src/common/random.js'

interface Golden {
  readonly activations: number[]
  readonly ranges: readonly {
    readonly bits: number
    readonly symmetric: boolean
    readonly minmax: [number, number]
    readonly percentile: [number, number]
    readonly tf_enhanced: [number, number]
  }[]
}

/** Written by scripts/oracle/aimet.py. */
const golden: Golden = JSON.parse(readFileSync(new URL('../baselines/aimet.json', import.meta.url), 'utf8'))
const values = Float32Array.from(golden.activations, (value) => value / 4096)

const normals = (count: number, size: number, seed: number) => {
  const random = randomGenerator(seed)
  return Float32Array.from({ length: count }, () => size * randomNormal(random))
}

describe('ranges of activations', () => {
  it.each(golden.ranges)('are those of AIMET: $bits bits, symmetric $symmetric', (wanted) => {
    const rounding = { bits: wanted.bits, symmetric: wanted.symmetric }
    for (const search of rangeSearches) {
      // AIMET's tf_enhanced has 512 bins, its percentiles here 2048
      const counter = histogramCounter(search === 'sqnr' ? 512 : 2048)
      counter.add(values)
      const [low, high] = findRange(counter.histogram()!, rounding, search, 99)
      const { scale, zero } = activationGrid(low, high, rounding)
      const [least, most] = wanted[search === 'sqnr' ? 'tf_enhanced' : search]
      const aimet = (most - least) / (2 ** wanted.bits - 1)
      expect(Math.abs(scale / aimet - 1)).toBeLessThan(1e-4)
      expect(zero).toBe(Math.round(-least / aimet))
    }
  })

  it('count what comes in parts that grow, and lose nothing', () => {
    const counter = histogramCounter(64)
    expect(counter.histogram()).toBeUndefined()
    let low = 0
    let high = 0
    for (let part = 0; part < 9; part++) {
      const more = normals(100, 1.7 ** part, part)
      low = Math.min(low, ...more)
      high = Math.max(high, ...more)
      counter.add(more)
    }
    const { counts, start, width, ...seen } = counter.histogram()!
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(900)
    expect(seen).toEqual({ low, high })
    expect(start).toBeLessThanOrEqual(low)
    expect(start + 64 * width).toBeGreaterThanOrEqual(high * (1 - 1e-6))
    expect(64 * width).toBeLessThan(4 * (high - low))
    expect(() => counter.add(Float32Array.of(1, Number.NaN))).toThrow(/activation is NaN/)
  })

  it('are those of all values at once where the first parts are all one value', () => {
    const small = normals(500, 1e-4, 5)
    const parts = [new Float32Array(300), new Float32Array(200), small]
    const [whole, parted] = [histogramCounter(2048), histogramCounter(2048)]
    whole.add(Float32Array.from(parts.flatMap((part) => [...part])))
    for (const part of parts) parted.add(part)
    expect(parted.histogram()).toEqual(whole.histogram())
    const rounding = { bits: 8, symmetric: false }
    const [low, high] = findRange(parted.histogram()!, rounding, 'percentile', 99.9)
    expect(low).toBeLessThan(-1e-4)
    expect(high).toBeGreaterThan(1e-4)
    // a constant other than 0, and the second value in a part of its own
    const one = histogramCounter(64)
    for (const value of [3, 3, 5]) one.add(Float32Array.of(value))
    const { counts, ...seen } = one.histogram()!
    expect(seen).toEqual({ start: 3, width: 2 / 64, low: 3, high: 5 })
    expect([counts[0], counts[63]]).toEqual([2, 1])
  })

  it('hold a constant, and 0 alone', () => {
    for (const value of [3, -2, 0]) {
      const counter = histogramCounter(512)
      counter.add(new Float32Array(10).fill(value))
      for (const search of rangeSearches) {
        const [low, high] = findRange(counter.histogram()!, { bits: 8, symmetric: false }, search, 100)
        expect(low).toBeLessThanOrEqual(Math.min(0, value) + 0.6)
        expect(high).toBeGreaterThanOrEqual(Math.max(0, value) - 0.6)
      }
    }
  })
})

describe('rounded activations', () => {
  it('are off by half a step at most, and 0 stays 0', () => {
    for (const symmetric of [true, false]) {
      for (const bits of [4, 8, 16]) {
        const x = normals(60, 5, bits)
        x[7] = 0
        const rounded = roundActivations(x, 20, { bits, symmetric })
        expect(rounded[7]).toBe(0)
        for (let row = 0; row < 3; row++) {
          const own = x.subarray(20 * row, 20 * row + 20)
          const { scale } = activationGrid(Math.min(...own), Math.max(...own), { bits, symmetric })
          for (const [i, value] of own.entries()) {
            expect(Math.abs(rounded[20 * row + i] - value)).toBeLessThanOrEqual(scale * 0.51)
          }
        }
      }
    }
  })

  it('are their own rounding, and clipped by a static range', () => {
    const x = normals(50, 3, 1)
    const rounding = { bits: 8, symmetric: false, range: [-2, 4] as const }
    const once = roundActivations(x, 10, rounding)
    expect(roundActivations(once, 10, rounding)).toEqual(once)
    expect(Math.min(...once)).toBeGreaterThan(-2.02)
    expect(Math.max(...once)).toBeLessThan(4.02)
    expect(roundActivations(Float32Array.of(Number.NaN), 1, rounding)[0]).toBeNaN()
  })
})
