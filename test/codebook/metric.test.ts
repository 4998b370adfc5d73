import { describe, expect, it } from 'vitest'
import { readMetric } from '../../src/codebook/metric.js'
import { matrix } from '../../src/common/matrix.js'

const full = (...values: number[]) => matrix(1, 4, Float32Array.from(values))

describe('readMetric', () => {
  it('spreads a diagonal over d x d matrices and takes full ones as they are', () => {
    expect(readMetric(matrix(2, 2, Float32Array.of(1, 2, 3, 4)), 4, 2)).toEqual({
      period: 2,
      data: Float64Array.of(1, 0, 0, 2, 3, 0, 0, 4),
    })
    expect(readMetric(full(2, 1, 1, 3), 5, 2).data).toEqual(Float64Array.of(2, 1, 1, 3))
  })

  it('takes a singular matrix, which weighs one direction by nothing', () => {
    expect(() => readMetric(full(1, 1, 1, 1), 3, 2)).not.toThrow()
  })

  it('refuses what is no metric, naming the element', () => {
    expect(() => readMetric(full(1, 0.5, 0.2, 1), 3, 2)).toThrow(
      /metric 0: found 0\.2.* at \(1, 0\) and 0\.5 at \(0, 1\)/,
    )
    expect(() => readMetric(full(1, 2, 2, 1), 3, 2)).toThrow(/found 2 at \(1, 0\).*at most 1/)
    expect(() => readMetric(full(1, 0, 0, -1), 3, 2)).toThrow(/found -1 at \(1, 1\)/)
    expect(() => readMetric(full(Number.NaN, 0, 0, 1), 3, 2)).toThrow(/found NaN at \(0, 0\)/)
    expect(() => readMetric(full(1, Number.NaN, Number.NaN, 1), 3, 2)).toThrow(/found NaN at \(1, 0\)/)
    expect(() => readMetric(matrix(1, 3), 3, 2)).toThrow(/3 columns.*expected 2 \(diagonal\) or 4 \(full\)/)
    expect(() => readMetric(matrix(2, 2), 3, 2)).toThrow(/2 rows, which does not divide the 3 vectors/)
  })
})
