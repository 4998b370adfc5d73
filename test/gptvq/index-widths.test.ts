import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { widthError } from '../../src/codebook/constant-codebook.js'
import type { Matrix } from '../../src/common/matrix.js'
import { lossesByWidth, shareBits } from '../../src/gptvq/walk/index-widths.js'
import { dequantizeLayer, quantizeLayer, reconstructionError, type VqOptions } from '../../src/index.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'

/** The least loss of all ways to share out the bits. */
function leastLoss(losses: readonly Float64Array[], total: number): number {
  if (losses.length === 0) return total === 0 ? 0 : Number.POSITIVE_INFINITY
  const [first, ...rest] = losses
  let least = Number.POSITIVE_INFINITY
  for (let width = 1; width < first.length && width <= total; width++) {
    least = Math.min(least, first[width] + leastLoss(rest, total - width))
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
          const losses = importance.map((value) => lossesByWidth(new Float64Array(d).fill(value), most))
          const widths = shareBits(losses, total)
          expect(widths.reduce((sum, width) => sum + width, 0)).toBe(total)
          for (const width of widths) expect(width >= 1 && width <= most).toBe(true)
          const loss = losses.reduce((sum, ofVector, i) => sum + ofVector[widths[i]], 0)
          expect(loss).toBeLessThanOrEqual(leastLoss(losses, total) * (1 + 1e-12))
        },
      ),
    )
  })

  it('gives columns of one importance about the same', () => {
    const widths = shareBits(new Array(10).fill(lossesByWidth(Float64Array.of(3, 3), 12)), 45)
    expect([...widths].sort()).toEqual([4, 4, 4, 4, 4, 5, 5, 5, 5, 5])
  })
})

describe('lossesByWidth', () => {
  it('is that of the constant codebook where all dimensions count the same', () => {
    for (const d of [1, 2, 4]) {
      const losses = lossesByWidth(new Float64Array(d).fill(3), 12)
      for (let width = 1; width <= 12; width++) {
        expect(losses[width]).toBeCloseTo(3 * d * widthError(d, width), 12)
      }
    }
  })

  it('loses all without bits, never more with more bits, and never more than all', () => {
    const importance = fc.oneof(fc.constant(0), fc.double({ min: 1e-9, max: 1e6, noNaN: true }))
    const importances = fc
      .constantFrom(1, 2, 4)
      .chain((d) => fc.array(importance, { minLength: d, maxLength: d }))
    fc.assert(
      fc.property(importances, (given) => {
        const losses = lossesByWidth(Float64Array.from(given), 12)
        const all = given.reduce((a, b) => a + b, 0)
        expect(losses[0]).toBeCloseTo(all, 6)
        for (let width = 1; width <= 12; width++) {
          expect(losses[width]).toBeLessThanOrEqual(losses[width - 1] * (1 + 1e-9))
        }
      }),
    )
  })

  it('leaves all bits to a dimension whose neighbour does not count', () => {
    const losses = lossesByWidth(Float64Array.of(0, 5), 6)
    for (let width = 1; width <= 6; width++) {
      expect(losses[width]).toBeCloseTo(5 * widthError(2, 2 * width), 12)
    }
  })
})

describe('index widths of a layer in which one column of eight is another', () => {
  const weight = gaussianMatrix(128, 96, 1)
  const hessian = randomHessian(96, 400, 2)

  it.each<[string, { weight: Matrix; hessian: Matrix }]>([
    ['dead', { weight, hessian: everyEighth(hessian, 0, 'both') }],
    [
      'dead and of large weights',
      { weight: everyEighth(weight, 100, 'columns'), hessian: everyEighth(hessian, 0, 'both') },
    ],
    ['of zeros', { weight: everyEighth(weight, 0, 'columns'), hessian }],
    ['of small weights', { weight: everyEighth(weight, 0.1, 'columns'), hessian }],
    ['of large weights', { weight: everyEighth(weight, 4, 'columns'), hessian }],
    ['of small inputs', { weight, hessian: everyEighth(hessian, 0.05, 'both') }],
  ])('%s lose less than even ones', async (_, layer) => {
    for (const vectorDim of [1, 2, 4] as const) {
      const [fitted, even] = [
        await errorOf(layer, { vectorDim }),
        await errorOf(layer, { vectorDim, indexWidths: 'same' }),
      ]
      expect(fitted).toBeLessThan(even)
    }
  })

  it.each<[number, 2 | 4]>([
    [3, 2],
    [7, 2],
    [7, 4],
    [33, 4],
  ])(
    'of %d columns in vectors of %d, the last one padded, lose no more than even ones',
    async (cols, vectorDim) => {
      const layer = { weight: gaussianMatrix(64, cols, 3), hessian: randomHessian(cols, 400, 4) }
      const [fitted, even] = [
        await errorOf(layer, { vectorDim }),
        await errorOf(layer, { vectorDim, indexWidths: 'same' }),
      ]
      expect(fitted).toBeLessThanOrEqual(1.02 * even)
    },
  )
})

/** A matrix of which every eighth column, or every eighth column and row, is multiplied. */
function everyEighth({ rows, cols, data }: Matrix, by: number, which: 'columns' | 'both'): Matrix {
  const changed = data.map((value, i) => {
    const [row, column] = [Math.floor(i / cols), i % cols]
    return value * (column % 8 === 0 ? by : 1) * (which === 'both' && row % 8 === 0 ? by : 1)
  })
  return { rows, cols, data: changed }
}

async function errorOf(
  { weight, hessian }: { weight: Matrix; hessian: Matrix },
  options: VqOptions,
): Promise<number> {
  const values = dequantizeLayer(await quantizeLayer(weight, hessian, options))
  return reconstructionError(weight, values, hessian).relative
}
