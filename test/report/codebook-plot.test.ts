import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { quantizeKmeans } from '../../src/baselines/kmeans.js'
import { OptionError, ShapeError } from '../../src/common/errors.js'
import { centroidsOf, columnGroupsOf, dequantizeLayer, rowGroupsOf } from '../../src/packing/vq-layer.js'
import {
  type CodebookGroup,
  codebookGroup,
  sampleIndices,
} from '../../src/report/codebooks/codebook-group.js'
import { codebookPlot } from '../../src/report/codebooks/codebook-plot.js'
import { bestScalarLevels, snrOfLevels, snrOfNearest } from '../../src/report/scalar-reference.js'
import { layers, randomPermutation } from '../packing/layers.js'
import { gaussianMatrix } from '../support/random-matrix.js'
import { countMarks, hostileName, parsePicture, textsOf } from './support.js'

const weight = gaussianMatrix(32, 64, 1)
const groupOf = (vectorDim: 1 | 2 | 4, bits: number) =>
  codebookGroup(quantizeKmeans(weight, { vectorDim, bits, groupSize: 2048 }), 0, weight)
const withoutWeights = ({ weights: _, ...group }: CodebookGroup): CodebookGroup => group

describe('the plane', () => {
  const group = groupOf(2, 2)

  test('has one cell and one point per centroid, and one point per pair of scalar levels', () => {
    const picture = parsePicture(codebookPlot(group))
    expect(countMarks(picture, 'cells', 'path')).toBe(16)
    expect(countMarks(picture, 'centroids', 'circle')).toBe(16)
    expect(countMarks(picture, 'levels', 'path')).toBe(16)
    expect(textsOf(picture)).toEqual(expect.arrayContaining(['first weight of the vector', 'second weight']))
  })

  test('shades the cells by their use where there are no weights', () => {
    const picture = parsePicture(codebookPlot(withoutWeights(group)))
    const shades = [...picture.querySelectorAll('.gptvq-cells path')].map((cell) =>
      Number(cell.getAttribute('fill-opacity')),
    )
    const counts = Array.from(group.counts ?? [])
    expect(shades[counts.indexOf(Math.max(...counts))]).toBe(Math.max(...shades))
    expect(shades[counts.indexOf(Math.min(...counts))]).toBe(Math.min(...shades))
    expect(countMarks(picture, 'levels', 'path')).toBe(0)
  })

  test('stands one panel above the other where it is narrow', () => {
    const heightOf = (width: number) =>
      Number(parsePicture(codebookPlot(group, { width })).getAttribute('height')) / width
    expect(heightOf(340)).toBeGreaterThan(1.5)
    expect(heightOf(720)).toBeLessThan(0.8)
  })

  test('draws a sample of more than 1024 centroids, says so, and stays small', () => {
    const centroids = gaussianMatrix(65536, 2, 3).data
    const svg = codebookPlot({ vectorDim: 2, bits: 8, centroids, weights: weight.data })
    const picture = parsePicture(svg)
    expect(countMarks(picture, 'centroids', 'circle')).toBe(1024)
    expect(countMarks(picture, 'cells', 'path')).toBe(0)
    expect(textsOf(picture).join(' ')).toContain('of 65\u2009536 centroids are drawn')
    expect(svg.length).toBeLessThan(300_000)
  })

  test('copes with a codebook of one point, many times over', () => {
    const picture = parsePicture(codebookPlot({ vectorDim: 2, bits: 2, centroids: new Float32Array(32) }))
    expect(countMarks(picture, 'centroids', 'circle')).toBe(16)
  })
})

describe('the number line', () => {
  test('has one point per centroid and per scalar level, and a stroke between two neighbours', () => {
    const picture = parsePicture(codebookPlot(groupOf(1, 3)))
    expect(countMarks(picture, 'levels', 'circle')).toBe(8)
    expect(countMarks(picture, 'levels', 'path')).toBe(8)
    expect(countMarks(picture, 'edges', 'line')).toBe(14)
  })

  test('of a trellis says what picks a centroid, and speaks of strokes only where some are drawn', () => {
    const { counts: _, ...plain } = groupOf(1, 3)
    const group = { ...plain, centroids: gaussianMatrix(4096, 1, 3).data, trellis: { bits: 3.5 } }
    const [known, alone] = [group, withoutWeights(group)].map((one) => parsePicture(codebookPlot(one)))
    expect(textsOf(known).join(' ')).toMatch(/3\.5 bits per weight by a trellis.*rows above.*Strokes/)
    expect(countMarks(known, 'edges', 'line')).toBe(15)
    expect(textsOf(alone).join(' ')).not.toContain('Strokes')
  })

  test('shows the codebook alone where there are no weights', () => {
    const picture = parsePicture(codebookPlot(withoutWeights(groupOf(1, 3))))
    expect(countMarks(picture, 'levels', 'circle')).toBe(8)
    expect(countMarks(picture, 'levels', 'path')).toBe(0)
  })
})

test('4-D codebooks have a panel for every pair of components, each with every centroid', () => {
  const picture = parsePicture(codebookPlot(groupOf(4, 1)))
  expect(picture.querySelectorAll('.gptvq-centroids').length).toBe(6)
  expect(countMarks(picture, 'centroids', 'circle')).toBe(6 * 16)
})

test.each([1, 2, 4] as const)('the same %i-D group gives the same text', (d) => {
  expect(codebookPlot(groupOf(d, 2))).toBe(codebookPlot(groupOf(d, 2)))
})

test('a title is shown as it is, whatever it holds', () => {
  const picture = parsePicture(codebookPlot(groupOf(2, 2), { title: hostileName }))
  expect(picture.querySelector('script')).toBeNull()
  expect(picture.querySelector('title')?.textContent).toContain('</title><script>alert("x")</script>&amp;')
})

test('every group of any layer can be drawn', () => {
  fc.assert(
    fc.property(layers, fc.nat(), fc.boolean(), (layer, seed, known) => {
      const { layout } = layer
      const group = seed % (rowGroupsOf(layout) * columnGroupsOf(layout))
      const original = known ? gaussianMatrix(layout.rows, layout.cols, seed) : undefined
      const drawn = codebookGroup(layer, group, original)
      expect(drawn.centroids.length).toBe(centroidsOf(layout) * layout.vectorDim)
      parsePicture(codebookPlot(drawn))
    }),
    { numRuns: 25 },
  )
})

test('the weights of a group are in the units of its centroids: quantized weights lie on these', () => {
  fc.assert(
    fc.property(layers, fc.nat(), fc.boolean(), (plain, seed, ordered) => {
      const { layout } = plain
      const layer = ordered ? { ...plain, permutation: randomPermutation(layout.cols, seed) } : plain
      const { vectorDim: d } = layout
      const group = seed % (rowGroupsOf(layout) * columnGroupsOf(layout))
      const { centroids, weights = new Float32Array() } = codebookGroup(layer, group, dequantizeLayer(layer))
      const largest = centroids.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      for (let i = 0; i < weights.length; i += d) {
        let nearest = Number.POSITIVE_INFINITY
        for (let m = 0; m < centroids.length; m += d) {
          let apart = 0
          for (let a = 0; a < d; a++) apart = Math.max(apart, Math.abs(weights[i + a] - centroids[m + a]))
          nearest = Math.min(nearest, apart)
        }
        // a product with a scale is rounded once, the quotient once more
        expect(nearest).toBeLessThanOrEqual(2 ** -22 * largest)
      }
    }),
    { numRuns: 60 },
  )
})

describe('what cannot be drawn is refused by name', () => {
  const group = groupOf(2, 2)
  const cases: [string, CodebookGroup][] = [
    ['vectorDim', { ...group, vectorDim: 5 }],
    ['bits', { ...group, bits: 17 }],
    ['centroids', { ...group, centroids: new Float32Array(7) }],
    ['centroids', { ...group, centroids: new Float32Array(0) }],
    ['centroids', { ...group, centroids: group.centroids.map((value, i) => (i === 3 ? Number.NaN : value)) }],
    ['counts', { ...group, counts: [1, 2] }],
    ['weights', { ...group, weights: new Float32Array(3) }],
    ['weights', { ...group, weights: Float32Array.of(0, Number.POSITIVE_INFINITY) }],
  ]
  test.each(cases)('%s', (option, wrong) => {
    expect(() => codebookPlot(wrong)).toThrow(OptionError)
    expect(() => codebookPlot(wrong)).toThrow(new RegExp(`^${option}: `))
  })

  test('a width that no picture fits, a group that is not there, weights of another layer', () => {
    const layer = quantizeKmeans(weight, { vectorDim: 2, bits: 2, groupSize: 2048 })
    expect(() => codebookPlot(group, { width: 100 })).toThrow(/^width: /)
    expect(() => codebookGroup(layer, 1)).toThrow(/^group: /)
    expect(() => codebookGroup(layer, 0, gaussianMatrix(8, 8, 1))).toThrow(ShapeError)
  })
})

describe('the scalar grid', () => {
  test('is no worse than the grid from the least to the greatest weight, and has even levels', () => {
    const levels = bestScalarLevels(weight.data, 2)
    const low = Math.min(...weight.data)
    const high = Math.max(...weight.data)
    const whole = Float64Array.from([0, 1, 2, 3], (i) => low + ((high - low) * i) / 3)
    expect(snrOfLevels(weight.data, levels)).toBeGreaterThan(snrOfLevels(weight.data, whole))
    const steps = [1, 2, 3].map((i) => levels[i] - levels[i - 1])
    for (const step of steps) expect(step).toBeCloseTo(steps[0], 12)
  })

  test('rounds to the same levels as a search through all of them', () => {
    const levels = bestScalarLevels(weight.data, 3)
    expect(snrOfLevels(weight.data, levels)).toBeCloseTo(
      snrOfNearest(weight.data, Float32Array.from(levels), 1),
      4,
    )
  })
})

test('a sample has one number of each stretch, in order', () => {
  fc.assert(
    fc.property(fc.nat(2000), fc.integer({ min: 1, max: 300 }), (count, most) => {
      const drawn = [...sampleIndices(count, most)]
      expect(drawn.length).toBe(Math.min(count, most))
      for (const [i, index] of drawn.entries()) {
        expect(Math.floor(((index + 1) * drawn.length - 1) / count)).toBeGreaterThanOrEqual(i)
        expect(index).toBeLessThan(count)
        if (i > 0) expect(index).toBeGreaterThan(drawn[i - 1])
      }
    }),
  )
})
