import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OptionError, TextError } from '../../../src/common/errors.js'
import { randomGenerator, randomNormal } from '../../../src/common/random.js'
import {
  columnGroupsOf,
  decodeCodebooks,
  dequantizeLayer,
  rowGroupsOf,
} from '../../../src/packing/vq-layer.js'
import { startAdam, stepAdam } from '../../../src/train/loop/adam.js'
import { evenly, shuffledBatches, splitSequences } from '../../../src/train/loop/sequences.js'
import { resolveTuningOptions } from '../../../src/train/tuning/options.js'
import {
  addCodebookGradient,
  codebookSizes,
  withCodebooks,
} from '../../../src/train/weights/codebook-values.js'
import { plainLayers, plainLayouts, randomLayer } from '../../packing/layers.js'
import { largestDifference } from '../../support/tolerance.js'

const normals = (length: number, seed: number) => {
  const random = randomGenerator(seed)
  return Float64Array.from({ length }, () => randomNormal(random))
}

describe('codebooks as values', () => {
  it('are stored again as they were, and nothing else of the layer changes', () => {
    fc.assert(
      fc.property(plainLayers, (layer) => {
        const values = decodeCodebooks(layer)
        const again = withCodebooks(layer, Float64Array.from(values))
        const rounding = layer.codebookBits === 8 ? 1 / 254 : 2 ** -11
        const size = values.length / layer.codebookScales.length
        for (const [group, scale] of layer.codebookScales.entries()) {
          const of = (x: Float32Array) => x.subarray(group * size, (group + 1) * size)
          const step = rounding * scale * (layer.codebookBits === 8 ? 127 : 1)
          expect(largestDifference(of(decodeCodebooks(again)), of(values))).toBeLessThanOrEqual(1.001 * step)
        }
        expect(again.indices).toBe(layer.indices)
        expect(again.layout).toBe(layer.layout)
        expect(again.codebookBits).toBe(layer.codebookBits)
      }),
    )
  })

  it('keep their bytes when they use the whole range of their form', () => {
    fc.assert(
      fc.property(plainLayouts, fc.nat(1e6), (layout, seed) => {
        const layer = randomLayer(layout, 8, seed)
        const size = layer.codebooks.length / layer.codebookScales.length
        for (let at = 0; at < layer.codebooks.length; at += size) layer.codebooks[at] = 127
        const again = withCodebooks(layer, Float64Array.from(decodeCodebooks(layer)))
        expect(again.codebooks).toEqual(layer.codebooks)
      }),
    )
  })

  it('have the gradient that undoes the look-up: the adjoint of dequantizing', () => {
    fc.assert(
      fc.property(wholeBlocks, fc.nat(1e6), (layout, seed) => {
        const layer = randomLayer(layout, 16, seed)
        const onWeights = Float32Array.from(normals(layout.rows * layout.cols, seed))
        const start = normals(layer.codebooks.length, seed + 1)
        const gradient = start.slice()
        addCodebookGradient(layer, onWeights, gradient)
        const weights = dequantizeLayer(layer).data
        const codebooks = decodeCodebooks(layer)
        const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
          Array.from(a, (x, i) => x * b[i]).reduce((sum, x) => sum + x, 0)
        const expected = dot(weights, onWeights) + dot(codebooks, start)
        // a weight with a block scale is a product rounded to float32
        const rounding = 2 ** -24 * dot(weights.map(Math.abs), onWeights.map(Math.abs))
        expect(Math.abs(dot(codebooks, gradient) - expected)).toBeLessThanOrEqual(
          rounding + 1e-9 * (1 + weights.length + codebooks.length),
        )
      }),
    )
  })

  it('have the size of their group: its root mean square', () => {
    fc.assert(
      fc.property(plainLayers, (layer) => {
        const values = Float64Array.from(decodeCodebooks(layer))
        const groups = rowGroupsOf(layer.layout) * columnGroupsOf(layer.layout)
        const sizes = codebookSizes(values, groups)
        const each = values.length / groups
        const expected = values.map((_, i) => {
          const group = values.subarray(i - (i % each), i - (i % each) + each)
          return Math.sqrt(group.reduce((sum, value) => sum + value ** 2, 0) / each)
        })
        expect(largestDifference(sizes, expected)).toBeLessThan(1e-12 * Math.max(...sizes, 1))
      }),
      { numRuns: 30 },
    )
  })
})

/** Layouts as layers are quantized in: a block with a scale is whole vectors of one group. */
const wholeBlocks = plainLayouts.filter(
  ({ vectorDim, columnsPerGroup, scaleBlockSize }) =>
    scaleBlockSize === undefined ||
    (columnsPerGroup % scaleBlockSize === 0 && scaleBlockSize % vectorDim === 0),
)

describe('Adam', () => {
  const sizes = Float64Array.of(1, 2, 0.5)

  it('first moves each value by its size times the learning rate, against its gradient', () => {
    const state = startAdam(Float64Array.of(1, 1, 1), sizes)
    stepAdam(state, Float64Array.of(3, -1e-6, 0), 0.1)
    expect(state.values[0]).toBeCloseTo(0.9, 9)
    expect(state.values[1]).toBeCloseTo(1.2, 9)
    expect(state.values[2]).toBe(1)
  })

  it('takes the same path whatever the scale of the loss', () => {
    const walk = (scale: number) => {
      const state = startAdam(Float64Array.of(1, -2, 3), sizes)
      for (let step = 0; step < 20; step++) {
        stepAdam(
          state,
          normals(3, step).map((slope) => scale * slope),
          0.05,
        )
      }
      return state.values
    }
    expect(largestDifference(walk(1), walk(1e-4))).toBeLessThan(1e-9)
  })

  it('comes to the minimum of a badly scaled quadratic, moving the values it was given', () => {
    const start = Float64Array.of(2, -1, 3)
    const curvatures = [1, 1e4, 1e-4]
    const target = [0.5, 1, -1]
    const state = startAdam(start, Float64Array.of(1, 1, 1))
    for (let step = 0; step < 600; step++) {
      const gradient = start.map((value, i) => curvatures[i] * (value - target[i]))
      stepAdam(state, gradient, 0.03 * (1 - step / 600))
    }
    expect(largestDifference(state.values, target)).toBeLessThan(1e-3)
    expect(state.values).toBe(start)
  })

  it('takes decay off besides, whatever the gradient', () => {
    const state = startAdam(Float32Array.of(2, 2), 1, 0.5)
    stepAdam(state, Float32Array.of(0, 1), 0.1)
    expect(state.values[0]).toBeCloseTo(0.95 * 2, 6)
    expect(state.values[1]).toBeCloseTo(0.95 * 2 - 0.1, 6)
  })
})

describe('sequences for tuning', () => {
  const sequences = (count: number) => Array.from({ length: count }, () => new Int32Array(4))

  it('are each either trained on or held out, the latter in the share asked for', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 300 }),
        fc.double({ min: 0.001, max: 0.999, noNaN: true }),
        (count, share) => {
          const { training, heldOut } = splitSequences(sequences(count), share)
          const all = [...training, ...heldOut].sort((a, b) => a - b)
          expect(all).toEqual(Array.from({ length: count }, (_, i) => i))
          expect(training.length).toBeGreaterThan(0)
          expect(heldOut.length).toBeGreaterThan(0)
          expect(Math.abs(heldOut.length - share * count)).toBeLessThanOrEqual(1)
        },
      ),
    )
  })

  it('must be two at least, of one length', () => {
    expect(() => splitSequences(sequences(1), 0.5)).toThrow(TextError)
    expect(() => splitSequences([], 0.5)).toThrow(/got 0 sequences/)
    expect(() => splitSequences([...sequences(3), new Int32Array(5)], 0.5)).toThrow(/of 4, 5 tokens/)
  })

  it('come in another order with another seed, each once', () => {
    const items = Array.from({ length: 41 }, (_, i) => 3 * i)
    const batches = shuffledBatches(items, 8, 1)
    expect(batches.map((batch) => batch.length)).toEqual([8, 8, 8, 8, 8, 1])
    expect(batches.flat().toSorted((a, b) => a - b)).toEqual(items)
    expect(shuffledBatches(items, 8, 1)).toEqual(batches)
    expect(shuffledBatches(items, 8, 2)).not.toEqual(batches)
  })

  it('are picked evenly, all when as many are asked for', () => {
    expect(evenly([5, 6, 7, 8], 2)).toEqual([6, 8])
    expect(evenly([5, 6, 7], 9)).toEqual([5, 6, 7])
  })
})

describe('tuning options', () => {
  it.each([
    ['epochs', 0],
    ['epochs', 1.5],
    ['learningRate', 0],
    ['learningRate', Number.NaN],
    ['batch', 0],
    ['heldOut', 1],
    ['heldOut', 0],
    ['patience', 0],
    ['seed', -1],
  ])('refuse %s = %d, naming it', (option, value) => {
    expect(() => resolveTuningOptions({ [option]: value })).toThrow(OptionError)
    expect(() => resolveTuningOptions({ [option]: value })).toThrow(new RegExp(`^${option}:`))
  })
})
