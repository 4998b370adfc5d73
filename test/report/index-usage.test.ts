import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { OptionError } from '../../src/common/errors.js'
import { centroidsOf, vectorsPerRow } from '../../src/packing/vq-layer.js'
import { indexHistogram } from '../../src/report/codebooks/index-histogram.js'
import { indexUsage, meanUsage, usageOfCounts } from '../../src/report/codebooks/index-usage.js'
import { layers } from '../packing/layers.js'
import { countMarks, parsePicture, textsOf } from './support.js'

describe('usage of indices', () => {
  test('entropy as computed by hand', () => {
    // shares 1/2, 1/4, 1/8, 1/8: 1/2 * 1 + 1/4 * 2 + 2 * 1/8 * 3 = 1.75 bits
    expect(usageOfCounts([[1, 4, 2, 1]])).toEqual({
      shares: Float64Array.of(0.5, 0.25, 0.125, 0.125),
      storedBits: 2,
      entropyBits: 1.75,
      unused: 0,
    })
    // a group of 8 that needs 2 bits and one of 24 that needs none: (8 * 2 + 24 * 0) / 32 = 0.5 bits
    const two = usageOfCounts([
      [2, 2, 2, 2],
      [0, 24, 0, 0],
    ])
    expect(two).toMatchObject({ entropyBits: 0.5, unused: 3 / 8 })
    expect([...two.shares]).toEqual([26 / 32, 2 / 32, 2 / 32, 2 / 32])
  })

  test('of any layer lies between 0 and the bits stored, and agrees with a count of its own', () => {
    fc.assert(
      fc.property(layers, (layer) => {
        const { layout, indices } = layer
        const { shares, storedBits, entropyBits, unused } = indexUsage(layer)
        const perRow = vectorsPerRow(layout)
        const groups = new Map<string, number[]>()
        for (const [i, index] of indices.entries()) {
          const rowGroup = Math.floor(Math.floor(i / perRow) / layout.rowsPerGroup)
          const columnGroup = Math.floor(((i % perRow) * layout.vectorDim) / layout.columnsPerGroup)
          const key = `${rowGroup} ${columnGroup}`
          groups.set(key, [...(groups.get(key) ?? []), index])
        }
        let bits = 0
        let used = 0
        for (const members of groups.values()) {
          used += new Set(members).size
          for (const index of members) {
            bits -= Math.log2(members.filter((other) => other === index).length / members.length)
          }
        }
        const k = centroidsOf(layout)
        expect(entropyBits).toBeCloseTo(bits / indices.length, 9)
        expect(unused).toBeCloseTo(1 - used / (groups.size * k), 12)
        expect(storedBits).toBe(Math.log2(k))
        expect(entropyBits).toBeGreaterThanOrEqual(0)
        expect(entropyBits).toBeLessThanOrEqual(storedBits + 1e-12)
        expect(shares.reduce((sum, share) => sum + share)).toBeCloseTo(1, 12)
        for (let rank = 1; rank < k; rank++) expect(shares[rank]).toBeLessThanOrEqual(shares[rank - 1])
      }),
      { numRuns: 60 },
    )
  })

  test('means count each layer as much as its weight', () => {
    const [even, single] = [usageOfCounts([[1, 1]]), usageOfCounts([[4, 0]])]
    expect(meanUsage([even, single], [3, 1])).toMatchObject({
      entropyBits: 0.75,
      storedBits: 1,
      unused: 0.125,
    })
    expect(() => meanUsage([even, usageOfCounts([[1, 1, 1]])], [1, 1])).toThrow(OptionError)
    expect(() => meanUsage([], [])).toThrow(OptionError)
  })

  test('refuses counts that are none', () => {
    expect(() => usageOfCounts([])).toThrow(/^groups: /)
    expect(() => usageOfCounts([[0, 0]])).toThrow(/^groups: hold no vector/)
    expect(() => usageOfCounts([[1, 1], [1]])).toThrow(/^groups: group 1 has 1/)
    expect(() => usageOfCounts([[1.5, 1]])).toThrow(OptionError)
    expect(() => usageOfCounts([[-1, 1]])).toThrow(OptionError)
  })
})

describe('histogram', () => {
  test('has a bar per centroid, and says what an index takes and needs', () => {
    const picture = parsePicture(indexHistogram(usageOfCounts([[1, 4, 2, 1]])))
    expect(countMarks(picture, 'ranks', 'rect')).toBe(4)
    const text = textsOf(picture).join(' ')
    expect(text).toContain('takes 2 bits and needs 1.75')
    expect(text).toContain('save 13 %')
    expect(text).toContain('Every centroid is used')
  })

  test('bars are as high as the shares', () => {
    const bars = [
      ...parsePicture(indexHistogram(usageOfCounts([[1, 4, 2, 1]]))).querySelectorAll('.gptvq-ranks rect'),
    ]
    // an inset of 0.8 pixels above and below
    const heights = bars.map((bar) => Number(bar.getAttribute('height')) + 1.6)
    expect(heights[0] / heights[1]).toBeCloseTo(2, 1)
    expect(heights[1] / heights[2]).toBeCloseTo(2, 1)
    expect(heights[2]).toBe(heights[3])
  })

  test('many centroids share bars', () => {
    const counts = Array.from({ length: 65536 }, (_, i) => i % 7)
    const svg = indexHistogram(usageOfCounts([counts]))
    expect(countMarks(parsePicture(svg), 'ranks', 'rect')).toBe(128)
    expect(svg.length).toBeLessThan(40_000)
  })

  test('a codebook of one centroid, and a layer that uses one of many', () => {
    parsePicture(indexHistogram(usageOfCounts([[5]])))
    expect(textsOf(parsePicture(indexHistogram(usageOfCounts([[5, 0, 0, 0]])))).join(' ')).toContain(
      '75 % of the centroids are unused',
    )
  })

  test('refuses shares that are none', () => {
    const usage = usageOfCounts([[1, 1]])
    expect(() => indexHistogram({ ...usage, shares: Float64Array.of(1, 1) })).toThrow(/^shares: sum to 2/)
    expect(() => indexHistogram({ ...usage, entropyBits: Number.NaN })).toThrow(/^entropyBits: /)
  })
})
