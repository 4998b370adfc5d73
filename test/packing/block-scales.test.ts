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
  it('multiplies each weight by the scale of its own block, whatever rows are asked for', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 17 }),
        fc.integer({ min: 0, max: 6 }),
        fc.integer({ min: 0, max: 6 }),
        (cols, blockSize, one, other) => {
          const [first, last] = [Math.min(one, other), Math.max(one, other)]
          const perRow = Math.ceil(cols / blockSize)
          const scales = Float32Array.from({ length: 6 * perRow }, (_, i) => 1 / (i + 2))
          const { data: weights } = gaussianMatrix(6, cols, 1)
          const part = weights.slice(first * cols, last * cols)
          multiplyByScales(part, cols, scales, blockSize, first, last)
          const expected = Float32Array.from(part, (_, i) => {
            const [row, column] = [first + Math.floor(i / cols), i % cols]
            return weights[row * cols + column] * scales[row * perRow + Math.floor(column / blockSize)]
          })
          expect(part).toEqual(expected)
        },
      ),
    )
  })
})
