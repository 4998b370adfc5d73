import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { halfToFloat } from '../../src/kernels/half.js'
import {
  dequantizeScalar,
  nearestCode,
  packScalar,
  scalarGrid,
  unpackScalar,
} from '../../src/packing/scalar-layer.js'
import { scalarLayers } from './scalar-layers.js'

describe('packScalar and unpackScalar', () => {
  it('give back the same layer, for any shape, width and group size', () => {
    fc.assert(
      fc.property(scalarLayers, (layer) => {
        expect(unpackScalar(packScalar(layer))).toEqual(layer)
      }),
      { numRuns: 300 },
    )
  })
})

describe('dequantizeScalar', () => {
  it('is exactly (code - zero) * scale of the weight’s group', () => {
    fc.assert(
      fc.property(scalarLayers, (layer) => {
        const { rows, cols, groupSize, codes, zeros, scales } = layer
        const weights = dequantizeScalar(layer)
        for (let r = 0; r < rows; r++) {
          for (let j = 0; j < cols; j++) {
            const group = r * Math.ceil(cols / groupSize) + Math.floor(j / groupSize)
            const expected = (codes[r * cols + j] - zeros[group]) * halfToFloat(scales[group])
            expect(weights.data[r * cols + j]).toBe(expected)
          }
        }
      }),
    )
  })
})

/** Ranges of sizes from far below the smallest half up to what a half's scale can span. */
const ranges = fc
  .record({
    bits: fc.integer({ min: 1, max: 8 }),
    exponent: fc.double({ min: -14, max: 4.5, noNaN: true }),
    ends: fc.tuple(fc.double({ min: -1, max: 1, noNaN: true }), fc.double({ min: -1, max: 1, noNaN: true })),
  })
  .map(({ bits, exponent, ends }) => {
    const [low, high] = ends.map((end) => Math.fround(end * 10 ** exponent)).sort((a, b) => a - b)
    return { bits, low, high }
  })

function gridOf(low: number, high: number, bits: number) {
  const { scale: stored, zero } = scalarGrid(low, high, bits)
  const scale = halfToFloat(stored)
  const quantize = (weight: number) => (nearestCode(weight, scale, zero, bits) - zero) * scale
  // stored as a byte, which knows no -0
  return { scale, zero: zero + 0, quantize }
}

describe('scalarGrid', () => {
  it('has a positive finite scale and a zero point that is a code', () => {
    fc.assert(
      fc.property(ranges, ({ low, high, bits }) => {
        const { scale, zero } = gridOf(low, high, bits)
        expect(scale).toBeGreaterThan(0)
        expect(scale).toBeLessThan(Number.POSITIVE_INFINITY)
        expect(Array.from({ length: 2 ** bits }, (_, code) => code)).toContain(zero)
      }),
    )
  })

  it('keeps the zero point a code where the scale is rounded down a lot, to the smallest half', () => {
    for (let bits = 1; bits <= 8; bits++) {
      const largestCode = 2 ** bits - 1
      const low = -1.4 * 2 ** -24 * largestCode
      expect(gridOf(low, 0, bits)).toMatchObject({ scale: 2 ** -24, zero: largestCode })
    }
  })

  it('gives a weight of 0 the value 0 exactly', () => {
    fc.assert(
      fc.property(ranges, ({ low, high, bits }) => {
        expect(gridOf(low, high, bits).quantize(0) + 0).toBe(0)
      }),
    )
  })

  it('errs by half a scale at most between low and high, but for the rounding of the scale to a half', () => {
    fc.assert(
      fc.property(ranges, fc.double({ min: 0, max: 1, noNaN: true }), ({ low, high, bits }, share) => {
        const { scale, quantize } = gridOf(low, high, bits)
        const largestCode = 2 ** bits - 1
        const exact = (Math.max(0, high) - Math.min(0, low)) / largestCode
        const allowed = scale / 2 + largestCode * Math.abs(scale - exact) + 1e-9 * scale
        for (const weight of [low, high, low + share * (high - low)]) {
          expect(Math.abs(quantize(weight) - weight)).toBeLessThanOrEqual(allowed)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('quantizes to the nearest point of the grid, by search through all codes', () => {
    fc.assert(
      fc.property(ranges, fc.double({ min: -2, max: 2, noNaN: true }), ({ low, high, bits }, share) => {
        const { scale, zero, quantize } = gridOf(low, high, bits)
        const weight = share * Math.max(high, -low)
        const errors = Array.from({ length: 2 ** bits }, (_, code) =>
          Math.abs((code - zero) * scale - weight),
        )
        expect(Math.abs(quantize(weight) - weight)).toBeLessThanOrEqual(Math.min(...errors) + 1e-9 * scale)
      }),
    )
  })

  it('rounds the scale to the nearest half, from the definition', () => {
    const { scale, zero } = gridOf(-1, 2, 2)
    expect([scale, zero]).toEqual([1, 1])
    expect(gridOf(-3, 12, 4)).toMatchObject({ scale: 1, zero: 3 })
    expect(gridOf(0.5, 1.5, 1)).toMatchObject({ scale: 1.5, zero: 0 })
    expect(gridOf(-1.5, -0.5, 1)).toMatchObject({ scale: 1.5, zero: 1 })
  })

  it.each([
    ['all zeros', 0, 0],
    ['a constant above zero', 0.3, 0.3],
    ['a constant below zero', -0.3, -0.3],
    ['a tiny constant', 1e-30, 1e-30],
    ['a tiny spread about zero', -1e-30, 1e-30],
    ['a tiny spread far from zero', 1, 1 + 2 ** -23],
    ['the smallest float32', 0, 1e-45],
  ])('has no NaN in a group of %s', (_, low, high) => {
    for (let bits = 1; bits <= 8; bits++) {
      const { scale, quantize } = gridOf(low, high, bits)
      for (const weight of [low, high]) {
        const rounding = (2 ** bits - 1) * scale * 2 ** -11
        expect(Math.abs(quantize(weight) - weight)).toBeLessThanOrEqual(scale / 2 + rounding)
      }
    }
  })

  it('keeps a constant group to the rounding of a half', () => {
    for (const constant of [0.3, -0.3, 0.001, 1000]) {
      for (let bits = 1; bits <= 8; bits++) {
        const { quantize } = gridOf(constant, constant, bits)
        expect(Math.abs(quantize(constant) / constant - 1)).toBeLessThanOrEqual(2 ** -8)
      }
    }
  })
})

describe('scalarGrid beyond the range of a half', () => {
  it('refuses, naming the scale it would need', () => {
    expect(() => scalarGrid(0, 1e6, 2)).toThrow(
      /weights from 0 to 1000000 with 2 bits need a scale of 333333/,
    )
    expect(scalarGrid(0, 1e6, 8).scale).toBeGreaterThan(0)
  })
})

describe('nearestCode', () => {
  it('stays within the codes for weights far outside the grid', () => {
    expect(nearestCode(1e30, 0.5, 3, 4)).toBe(15)
    expect(nearestCode(-1e30, 0.5, 3, 4)).toBe(0)
  })
})
