import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OptionError } from '../../src/common/errors.js'
import { bitsPerValue, packedBytes } from '../../src/packing/bits-per-value.js'
import { type ScaleBlockSize, scaleBlockSizes } from '../../src/packing/block-scales.js'
import { layoutOf } from '../../src/packing/layout.js'
import { type LayoutOptions, resolveLayoutOptions } from '../../src/packing/layout-options.js'
import { packLayer } from '../../src/packing/pack-layer.js'
import { emptyLayer, type VqLayout } from '../../src/packing/vq-layer.js'
import { thrownBy } from '../support/tolerance.js'

function cut(rows: number, cols: number, options: LayoutOptions): VqLayout {
  return layoutOf(rows, cols, resolveLayoutOptions(options))
}

/** Bits of all packed arrays, from a layer packed in earnest. */
function packedBits(layout: VqLayout, codebookBits: 8 | 16): number {
  return 8 * packedBytes(packLayer(emptyLayer(layout, codebookBits)))
}

const requests = fc
  .record({
    rows: fc.integer({ min: 1, max: 300 }),
    cols: fc.integer({ min: 1, max: 500 }),
    vectorDim: fc.constantFrom<1 | 2 | 4>(1, 2, 4),
    bits: fc.integer({ min: 1, max: 4 }),
    codebookBits: fc.constantFrom<8 | 16>(8, 16),
    vectorsPerGroup: fc.integer({ min: 1, max: 64 }),
    extra: fc.double({ min: 0.01, max: 3, noNaN: true }),
    scaleBlockSize: fc.constantFrom<'none' | ScaleBlockSize>('none', ...scaleBlockSizes),
  })
  .map(({ rows, cols, vectorDim, bits: anyBits, codebookBits, vectorsPerGroup, extra, scaleBlockSize }) => {
    const bits = Math.min(anyBits, 8 / vectorDim)
    const columnsPerGroup = (scaleBlockSize === 'none' ? vectorDim : scaleBlockSize) * vectorsPerGroup
    const options = { vectorDim, bits, codebookBits, columnsPerGroup, scaleBlockSize, bpv: bits + extra }
    return { rows, cols, options }
  })

describe('layoutOf with bpv', () => {
  it('keeps within it with the smallest groups that do, or says what is the least possible', () => {
    let met = 0
    let refused = 0
    fc.assert(
      fc.property(requests, ({ rows, cols, options }) => {
        const { bpv, codebookBits } = options
        // a hair of room for the rounding of this very product
        const allowed = bpv * rows * cols * (1 + 1e-11)
        const one = { ...cut(rows, cols, { ...options, bpv: 1e9 }), rowsPerGroup: rows }
        if (packedBits(one, codebookBits) > allowed) {
          refused++
          const error = thrownBy(() => cut(rows, cols, options))
          expect(error).toBeInstanceOf(OptionError)
          expect((error as OptionError).option).toBe('bpv')
          const [, least] = /already takes ([\d.]+);/.exec((error as Error).message) ?? []
          expect(Math.abs(Number(least) - packedBits(one, codebookBits) / (rows * cols))).toBeLessThan(1e-4)
          const enough = cut(rows, cols, { ...options, bpv: Number(least) })
          expect(bitsPerValue(packLayer(emptyLayer(enough, codebookBits))).total).toBeLessThanOrEqual(
            Number(least) * (1 + 1e-12),
          )
          return
        }
        met++
        const layout = cut(rows, cols, options)
        expect(packedBits(layout, codebookBits)).toBeLessThanOrEqual(allowed)
        if (layout.rowsPerGroup > 1) {
          const smaller = { ...layout, rowsPerGroup: layout.rowsPerGroup - 1 }
          expect(packedBits(smaller, codebookBits)).toBeGreaterThan(allowed)
        }
      }),
      { numRuns: 400 },
    )
    expect(met).toBeGreaterThan(20)
    expect(refused).toBeGreaterThan(20)
  })

  it('names the layer, the option asked for and what to change when it cannot be met', () => {
    const error = thrownBy(() => cut(4, 64, { bpv: 2.125, scaleBlockSize: 'none' }))
    expect((error as Error).message).toMatch(
      /^bpv: 2\.125 cannot be met by a 4 x 64 layer .*already takes 3\.0625.*; raise bpv or columnsPerGroup/,
    )
    const scaled = thrownBy(() => cut(256, 256, { bpv: 2.125, scaleBlockSize: 16 }))
    expect((scaled as Error).message).toMatch(
      /256 columns and a scale per 16 weights already takes 2\.2547; raise bpv or scaleBlockSize \(or none\)/,
    )
  })
})

describe('layoutOf with bpv and a trellis', () => {
  const most = (error: unknown) =>
    Number(/is more than the ([\d.]+) that/.exec((error as Error).message)?.[1])

  it.each([
    [1, 8, 4, 13],
    [2, 2, 8, 7.125],
    [2, 1, 10, 7],
    [4, 2, 4, 4],
  ] as const)(
    'refuses %i-D bits that no index can have, naming the most that all take',
    (vectorDim, bits, trellisBits, bpv) => {
      const options = { vectorDim, bits, trellisBits, bpv }
      const error = thrownBy(() => cut(256, 256, options))
      expect(error).toMatchObject({ option: 'bpv', message: expect.stringMatching(/trellisBits 0/) })
      const layout = cut(256, 256, { ...options, bpv: most(error) })
      expect(Math.min(...layout.trellis!.widths)).toBe(12)
      expect(packedBits(layout, 8) / 256 ** 2).toBeCloseTo(most(error), 3)
    },
  )

  it('advises a longer trellis where there is one', () => {
    expect(() => cut(256, 256, { trellisBits: 1, bpv: 4 })).toThrow(/trellis of 5 bits .*raise trellisBits/)
  })

  it('takes a bpv that smaller layers beside it can use', () => {
    const options = { bits: 4, trellisBits: 4, bpv: 6.08 }
    expect(() => [cut(64, 64, options), cut(2048, 2048, options)]).not.toThrow()
  })

  it('is a limit alone where all indices are the same', () => {
    const options = { trellisBits: 8, indexWidths: 'same' } as const
    expect(cut(256, 256, { ...options, bpv: 3 })).toEqual(cut(256, 256, options))
  })
})

describe('layoutOf without bpv', () => {
  it('aims at bits + 0.125: the paper’s setting, 2.125 bits with vectors of 2', () => {
    const layout = cut(1152, 1024, { scaleBlockSize: 'none' })
    expect(layout).toEqual({
      rows: 1152,
      cols: 1024,
      vectorDim: 2,
      bits: 2,
      columnsPerGroup: 256,
      // a codebook of 16 x 2 x 8 bits with its 16-bit scale costs an eighth of a bit over 8.5 rows
      rowsPerGroup: 9,
    })
    const weights = 1152 * 1024
    expect(packedBits(layout, 8)).toBeLessThanOrEqual(2.125 * weights)
    expect(packedBits({ ...layout, rowsPerGroup: 8 }, 8)).toBeGreaterThan(2.125 * weights)
  })

  it('aims at the same with block scales of 64 and more, and at half of it beside smaller ones', () => {
    expect(cut(1152, 1024, {})).toEqual(cut(1152, 1024, { scaleBlockSize: 64 }))
    for (const [scaleBlockSize, aim] of [
      [128, 2.125],
      [64, 2.125],
      [32, 2.1875],
      [16, 2.3125],
    ] as const) {
      const layout = cut(1152, 1024, { scaleBlockSize })
      expect(layout).toMatchObject({ scaleBlockSize, columnsPerGroup: 256 })
      expect(packedBits(layout, 8)).toBeLessThanOrEqual(aim * 1152 * 1024)
      const smaller = { ...layout, rowsPerGroup: layout.rowsPerGroup - 1 }
      expect(packedBits(smaller, 8)).toBeGreaterThan(aim * 1152 * 1024)
    }
  })

  it('takes one codebook per column group where a layer is too small for bits + 0.125', () => {
    expect(cut(4, 64, {})).toMatchObject({ rowsPerGroup: 4, columnsPerGroup: 64 })
  })

  it('takes the rows that groupSize gives, and no more than there are', () => {
    expect(cut(64, 512, { groupSize: 2048 })).toMatchObject({ rowsPerGroup: 8, columnsPerGroup: 256 })
    expect(cut(5, 512, { groupSize: 2048 })).toMatchObject({ rowsPerGroup: 5, columnsPerGroup: 256 })
    expect(cut(64, 512, { groupSize: 128 })).toMatchObject({ rowsPerGroup: 1, columnsPerGroup: 128 })
  })

  it('narrows groups to a layer that has fewer columns, filled up to whole vectors', () => {
    expect(cut(64, 101, { groupSize: 2048, vectorDim: 2 })).toMatchObject({
      columnsPerGroup: 102,
      rowsPerGroup: 20,
    })
    expect(cut(64, 3, { groupSize: 256, vectorDim: 4, bits: 1 })).toMatchObject({
      columnsPerGroup: 4,
      rowsPerGroup: 64,
    })
  })
})
