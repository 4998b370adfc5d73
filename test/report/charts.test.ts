import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fitCodebook } from '../../src/codebook/fit-codebook.js'
import { OptionError } from '../../src/common/errors.js'
import { convergencePlot } from '../../src/report/convergence-plot.js'
import { paretoFront } from '../../src/report/pareto-front.js'
import { type RatePoint, rateDistortionChart } from '../../src/report/rate-distortion.js'
import { gaussianMatrix } from '../support/random-matrix.js'
import { countMarks, hostileName, parsePicture, textsOf } from './support.js'

const points: RatePoint[] = [
  { method: 'GPTVQ', bits: 2.125, value: 0.02 },
  { method: 'GPTVQ', bits: 3.125, value: 0.005 },
  { method: 'GPTQ', bits: 2.14, value: 0.05 },
  { method: 'GPTQ', bits: 4.14, value: 0.001 },
  { method: 'RTN', bits: 2.14, value: 0.2 },
]

test('the Pareto front holds exactly the points that no other beats', () => {
  const point = fc.record({ bits: fc.integer({ min: 0, max: 9 }), cost: fc.integer({ min: 0, max: 9 }) })
  fc.assert(
    fc.property(fc.array(point, { maxLength: 30 }), (all) => {
      const beaten = (p: (typeof all)[number]) =>
        all.some((q) => q.bits <= p.bits && q.cost <= p.cost && (q.bits < p.bits || q.cost < p.cost))
      const front = paretoFront(all)
      expect(new Set(front)).toEqual(new Set(all.filter((p) => !beaten(p))))
      for (let i = 1; i < front.length; i++) expect(front[i].bits).toBeGreaterThanOrEqual(front[i - 1].bits)
    }),
  )
})

describe('rate-distortion chart', () => {
  test('has one symbol per point, a ring per point of the front, and the methods in the legend', () => {
    const picture = parsePicture(rateDistortionChart(points))
    expect(picture.querySelectorAll('.gptvq-points path, .gptvq-points circle').length).toBe(points.length)
    expect(countMarks(picture, 'front', 'circle')).toBe(3)
    expect(countMarks(picture, 'front', 'path') + picture.querySelectorAll('path.gptvq-front').length).toBe(1)
    expect(textsOf(picture)).toEqual(
      expect.arrayContaining([
        'GPTVQ',
        'GPTQ',
        'RTN',
        'Pareto front',
        'bits per value, all stored bytes counted',
      ]),
    )
  })

  test('where more is better, the front is on the other side', () => {
    const picture = parsePicture(rateDistortionChart(points, { better: 'more', measure: 'SNR, dB' }))
    expect(countMarks(picture, 'front', 'circle')).toBe(2)
    expect(textsOf(picture)).toContain('SNR, dB (more is better)')
  })

  test('methods differ in colour, dash and symbol', () => {
    const picture = parsePicture(rateDistortionChart(points))
    const groups = [...picture.querySelectorAll('.gptvq-points')]
    expect(new Set(groups.map((group) => group.getAttribute('stroke'))).size).toBe(3)
    const shapes = groups.map((group) => {
      const shape = group.querySelector('path, circle')
      return shape?.getAttribute('d')?.replace(/[\d.-]+/g, '') ?? shape?.tagName
    })
    expect(new Set(shapes).size).toBe(3)
  })

  test('a logarithmic scale and a single point can be drawn', () => {
    parsePicture(rateDistortionChart(points, { scale: 'log' }))
    parsePicture(rateDistortionChart(points.slice(0, 1), { scale: 'log', width: 320 }))
    parsePicture(rateDistortionChart([{ method: hostileName, bits: 2, value: 0 }]))
  })

  test('refuses what cannot be drawn by name', () => {
    expect(() => rateDistortionChart([])).toThrow(OptionError)
    expect(() => rateDistortionChart([{ ...points[0], value: Number.NaN }])).toThrow(
      /^points: value of GPTVQ/,
    )
    expect(() => rateDistortionChart([{ ...points[0], bits: -1 }])).toThrow(/^points: bits of GPTVQ/)
    expect(() => rateDistortionChart([{ ...points[0], value: 0 }], { scale: 'log' })).toThrow(/^scale: /)
  })
})

describe('convergence plot', () => {
  const { losses } = fitCodebook(gaussianMatrix(500, 2, 1), { k: 16 })

  test('has a symbol per step of a short curve and names the curves', () => {
    const curves = [
      { name: 'training text', values: [0.3, 0.2, 0.15] },
      { name: 'held-out text', values: Float64Array.of(0.31, 0.22, 0.2) },
    ]
    const picture = parsePicture(convergencePlot(curves, { step: 'epoch', measure: 'KL, nats per token' }))
    expect(picture.querySelectorAll('.gptvq-points path, .gptvq-points circle').length).toBe(6)
    expect(textsOf(picture)).toEqual(
      expect.arrayContaining([
        'training text',
        'held-out text',
        'epoch',
        'KL, nats per token',
        '0',
        '1',
        '2',
      ]),
    )
  })

  test('draws the losses of a fit, and says where they begin and end', () => {
    const picture = parsePicture(convergencePlot([{ name: 'EM', values: losses }], { relative: true }))
    expect(picture.getAttribute('aria-label')).toContain(`EM from 1 to `)
    expect(picture.getAttribute('aria-label')).toContain(`at iteration ${losses.length - 1}`)
  })

  test('puts values at their steps, also of curves that were measured apart', () => {
    const curves = [
      { name: 'often', values: [4, 3, 2, 1], steps: [0, 16, 32, 40] },
      { name: 'seldom', values: [4, 2], steps: [0, 32] },
    ]
    const picture = parsePicture(convergencePlot(curves, { step: 'step' }))
    const label = picture.getAttribute('aria-label')
    expect(label).toContain('often from 4 to 1 at step 40')
    expect(label).toContain('seldom from 4 to 2 at step 32')
    expect(textsOf(picture)).toEqual(expect.arrayContaining(['0', '20', '40']))
  })

  test('a curve of a million steps stays small and keeps its ends', () => {
    const values = Float64Array.from({ length: 1e6 }, (_, i) => 1 + 1 / (1 + i))
    const svg = convergencePlot([{ name: 'long', values }], { scale: 'log' })
    expect(svg.length).toBeLessThan(40_000)
    expect(parsePicture(svg).getAttribute('aria-label')).toContain('from 2 to 1 at iteration 999999')
  })

  test('a single value can be drawn', () => {
    parsePicture(convergencePlot([{ name: 'one', values: [3] }]))
    parsePicture(convergencePlot([{ name: 'nothing lost', values: [0, 0] }], { width: 328 }))
  })

  test('refuses what cannot be drawn by name', () => {
    expect(() => convergencePlot([])).toThrow(OptionError)
    for (const steps of [[0], [0, 0], [-1, 2], [0, Number.NaN]]) {
      expect(() => convergencePlot([{ name: 'a', values: [1, 2], steps }])).toThrow(/^curves \(a, steps\): /)
    }
    expect(() => convergencePlot([{ name: 'a', values: [] }])).toThrow(/^curves \(a\): is empty/)
    expect(() => convergencePlot([{ name: 'a', values: [1, Number.NaN] }])).toThrow(
      /^curves \(a\): value 1 is NaN/,
    )
    expect(() => convergencePlot([{ name: 'a', values: [1, 0] }], { scale: 'log' })).toThrow(/^scale: /)
    expect(() => convergencePlot([{ name: 'a', values: [0, 1] }], { relative: true })).toThrow(/^relative: /)
  })
})
