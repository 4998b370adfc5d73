import { describe, expect, it } from 'vitest'
import { growing, ofAllTokens } from '../../../src/pipeline/estimate/measure-layer.js'

/** Seconds of a layer whose rows take so much for a column and for a pair of columns. */
const costOf = (cols: number, perColumn: number, perPair: number) => ({
  once: 1e-7 * cols ** 2,
  rows: perColumn * cols + perPair * cols ** 2,
  factors: 1e-7 * cols ** 2 + 2e-11 * cols ** 3,
})

describe('the time of a layer', () => {
  it('of few columns is that of what was measured, all of it', async () => {
    const widths: number[] = []
    const found = await growing(1536, 2048, async (cols) => {
      widths.push(cols)
      return costOf(cols, 1e-3, 1e-6)
    })
    const { once, rows, factors } = costOf(1536, 1e-3, 1e-6)
    expect(widths).toEqual([1536])
    expect(found).toEqual({ own: once + rows, factors })
  })

  it.each([
    [1e-3, 0],
    [1e-3, 4e-7],
    [0, 4e-7],
  ])(
    'of many columns is carried on from two widths, rows that take %d s a column and %d s a pair',
    async (perColumn, perPair) => {
      const widths: number[] = []
      const found = await growing(8192, 2048, async (cols) => {
        widths.push(cols)
        return costOf(cols, perColumn, perPair)
      })
      const { once, rows } = costOf(8192, perColumn, perPair)
      expect(widths).toEqual([1024, 2048])
      expect(found.own / (once + rows)).toBeCloseTo(1, 6)
      // between the power found at these widths, which is too low, and the cube
      const [narrow, wide] = [
        costOf(1024, perColumn, perPair).factors,
        costOf(2048, perColumn, perPair).factors,
      ]
      expect(found.factors).toBeGreaterThan(wide * 4 ** Math.log2(wide / narrow))
      expect(found.factors).toBeLessThan(wide * 4 ** 3)
    },
  )
})

describe('the Hessian that a layer is measured with', () => {
  const hessian = () => ({ rows: 3, cols: 3, data: Float32Array.of(4, 2, 2, 2, 4, 2, 2, 2, 4) })

  it('of few tokens that stand for many has half of what is off the diagonal', () => {
    const found = ofAllTokens({ tokens: 2, hessian: hessian() }, 100)
    expect([...found.hessian.data]).toEqual([4, 1, 1, 1, 4, 1, 1, 1, 4])
    expect(found.tokens).toBe(100)
  })

  it.each([
    ['as many tokens as it has columns', 3, 100],
    ['as few as the run will have', 2, 2],
  ])('of %s stays as it is', (_, seen, tokens) => {
    const found = ofAllTokens({ tokens: seen, hessian: hessian() }, tokens)
    expect(found).toEqual({ tokens, hessian: hessian() })
  })
})
