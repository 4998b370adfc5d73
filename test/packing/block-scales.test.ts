import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeScales, multiplyByScales, scaleLevels } from '../../src/packing/block-scales.js'
import { gaussianMatrix } from '../support/random-matrix.js'

describe('scaleLevels', () => {
  it('are float32 products, one after the other, that fall from 1 as the powers of the ratio do', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.25, max: 0.999, noNaN: true }), (number) => {
        const ratio = Math.fround(number)
        const levels = scaleLevels(ratio)
        expect(levels).toHaveLength(16)
        expect(levels[0]).toBe(1)
        for (let code = 1; code < 16; code++) {
          expect(levels[code]).toBe(Math.fround(levels[code - 1] * ratio))
          expect(levels[code]).toBeLessThan(levels[code - 1])
          expect(levels[code] / ratio ** code).toBeCloseTo(1, 5)
        }
      }),
    )
  })

  it('are what codes stand for', () => {
    const codes = Uint8Array.of(0, 15, 3, 3, 1)
    const levels = scaleLevels(0.75)
    expect([...decodeScales({ codes, ratio: 0.75 })]).toEqual([0, 15, 3, 3, 1].map((code) => levels[code]))
  })
})

describe('multiplyByScales', () => {
  it('multiplies each value by the scale of its own block, and none outside of the range', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 40 }),
        fc.integer({ min: 1, max: 17 }),
        fc.integer({ min: 0, max: 20 }),
        fc.integer({ min: 0, max: 6 }),
        (count, blockSize, start, block) => {
          const scales = Float32Array.from({ length: block + 41 }, (_, i) => 1 / (i + 2))
          const { data: values } = gaussianMatrix(1, start + count + 3, 1)
          const before = values.slice()
          multiplyByScales(values, start, start + count, scales, block, blockSize)
          const expected = before.map((value, i) => {
            const isInside = i >= start && i < start + count
            return isInside ? value * scales[block + Math.floor((i - start) / blockSize)] : value
          })
          expect(values).toEqual(expected)
        },
      ),
    )
  })
})
