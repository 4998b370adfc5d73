import { describe, expect, it } from 'vitest'
import { NumericError, ShapeError } from '../../src/common/errors.js'
import { assertFinite, copyMatrix, matrix } from '../../src/common/matrix.js'
import { thrownBy } from '../support/tolerance.js'

describe('matrix', () => {
  it('makes zeros of the shape asked for', () => {
    const m = matrix(2, 3)
    expect([m.rows, m.cols, ...m.data]).toEqual([2, 3, 0, 0, 0, 0, 0, 0])
  })

  it('wraps the array given without a copy', () => {
    const data = Float32Array.of(1, 2)
    expect(matrix(1, 2, data).data).toBe(data)
  })

  it.each([
    [0, 1],
    [1, 0],
    [-1, 2],
    [1.5, 2],
    [Number.NaN, 2],
    [2, Number.POSITIVE_INFINITY],
  ])('refuses the shape %d x %d and names it', (rows, cols) => {
    const error = thrownBy(() => matrix(rows, cols))
    expect(error).toBeInstanceOf(ShapeError)
    expect((error as Error).message).toContain(`${rows} x ${cols}`)
  })

  it('refuses an array of another length and names both lengths', () => {
    const error = thrownBy(() => matrix(2, 3, new Float32Array(5)))
    expect(error).toBeInstanceOf(ShapeError)
    expect((error as Error).message).toMatch(/6 values.* 5/)
  })
})

describe('copyMatrix', () => {
  it('shares nothing with the original', () => {
    const original = matrix(1, 2, Float32Array.of(1, 2))
    const copy = copyMatrix(original)
    copy.data[0] = 9
    expect(copy).toMatchObject({ rows: 1, cols: 2 })
    expect([...original.data]).toEqual([1, 2])
    expect([...copy.data]).toEqual([9, 2])
  })
})

describe('assertFinite', () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'names the matrix, the value %d and where it stands',
    (value) => {
      const m = matrix(3, 4)
      m.data[2 * 4 + 1] = value
      m.data[2 * 4 + 3] = value
      const error = thrownBy(() => assertFinite(m, 'layers.0.weight'))
      expect(error).toBeInstanceOf(NumericError)
      expect((error as Error).message).toContain(`layers.0.weight: found ${value} at row 2, column 1`)
    },
  )

  it('accepts the largest and smallest numbers float32 has', () => {
    const extremes = matrix(1, 4, Float32Array.of(3.4028234663852886e38, -3.4e38, 1e-45, -0))
    expect(() => assertFinite(extremes, 'extremes')).not.toThrow()
  })
})
