import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OptionError, packedBytes, packLayer } from '../../../src/index.js'
import { allLinearLayers } from '../../../src/model/decoder/linears.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { layoutOf } from '../../../src/packing/layout.js'
import { type LayoutOptions, resolveLayoutOptions } from '../../../src/packing/layout-options.js'
import { centroidsOf, emptyLayer } from '../../../src/packing/vq-layer.js'
import { layerCandidates } from '../../../src/pipeline/mixed/candidates.js'
import { planBudget } from '../../../src/pipeline/mixed/plan.js'
import { tinyConfig } from '../../support/tiny-model.js'

const linears = allLinearLayers(describeDecoder(tinyConfig, 'config.json'))

const layoutOptions = fc.record({
  vectorDim: fc.constantFrom(1 as const, 2 as const, 4 as const),
  codebookBits: fc.constantFrom(8 as const, 16 as const),
  columnsPerGroup: fc.constantFrom(32, 256),
  scaleBlockSize: fc.constantFrom('none' as const, 16 as const),
})

describe('layerCandidates', () => {
  it('counts the bytes that a layer with these bits and bits per value is packed into', () => {
    const size = fc.integer({ min: 20, max: 600 })
    fc.assert(
      fc.property(layoutOptions, size, size, fc.double({ min: 1, max: 8 }), (options, rows, cols, budget) => {
        const lists = layerCandidates(rows, cols, resolveLayoutOptions(options), budget)
        for (const { bits, bpv, bytes } of lists.flat()) {
          const settings = resolveLayoutOptions({ ...options, bits, bpv })
          const layout = layoutOf(rows, cols, settings)
          expect(packedBytes(packLayer(emptyLayer(layout, settings.codebookBits)))).toBe(bytes)
          const vectors = layout.rowsPerGroup * (layout.columnsPerGroup / layout.vectorDim)
          expect(centroidsOf(layout)).toBeLessThanOrEqual(vectors)
        }
      }),
    )
  })

  it('lists bits from 1 to 2 above the budget as far as codebooks of 256 go, each with smaller and smaller groups', () => {
    const bitsOf = (options: LayoutOptions, budget: number) =>
      layerCandidates(4096, 4096, resolveLayoutOptions(options), budget).map(([{ bits }]) => bits)
    expect(bitsOf({ vectorDim: 1 }, 2.5)).toEqual([1, 2, 3, 4])
    expect(bitsOf({ vectorDim: 2 }, 3.5)).toEqual([1, 2, 3, 4])
    expect(bitsOf({ vectorDim: 4 }, 2.5)).toEqual([1, 2])
    for (const sizes of layerCandidates(4096, 4096, resolveLayoutOptions({}), 2.5)) {
      const overheads = sizes.map(({ bits, bpv }) => bpv - bits - 4 / 64)
      expect(overheads.length).toBeGreaterThan(3)
      expect(overheads[0]).toBeLessThanOrEqual(1 / 32)
      for (const [i, overhead] of overheads.entries()) {
        // a layer's scales have one ratio, of 32 bits
        if (i > 0) expect(overhead / overheads[i - 1]).toBeCloseTo(2, 2)
        expect(overhead).toBeLessThanOrEqual(1 / 2)
      }
    }
  })
})

describe('planBudget', () => {
  const refusal = (bpv: number, options = {}) => {
    try {
      planBudget(linears, options, bpv)
    } catch (error) {
      return error as OptionError
    }
    throw new Error('the budget was not refused')
  }

  it('refuses a budget below the least or above the most, naming a figure that works', () => {
    for (const [bpv, pattern] of [
      [0.5, /^bpv: 0\.5 cannot be met.* take ([\d.]+) at least; raise bpv/],
      [6, /^bpv: 6 is more than the ([\d.]+) that bits 'mixed' can make use of/],
    ] as const) {
      const error = refusal(bpv)
      expect(error).toBeInstanceOf(OptionError)
      const [, figure] = pattern.exec(error.message)!
      expect(() => planBudget(linears, {}, Number(figure))).not.toThrow()
    }
    for (const bpv of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(refusal(bpv).message).toMatch(/^bpv: expected a finite number above 0/)
    }
  })

  it('gives the budget in whole bytes over all linear layers', () => {
    const { layers, budgetBytes } = planBudget(linears, {}, 2.2)
    const weights = layers.reduce((sum, { linear }) => sum + linear.rows * linear.cols, 0)
    expect(layers.length).toBe(14)
    expect(budgetBytes).toBe(Math.floor((2.2 * weights) / 8))
  })
})
