import { describe, expect, it } from 'vitest'
import { OptionError } from '../../src/common/errors.js'
import { type LayoutOptions, resolveLayoutOptions } from '../../src/packing/layout-options.js'
import { thrownBy } from '../support/tolerance.js'

describe('resolveLayoutOptions', () => {
  it('fills in the defaults: vectors of 2, 2 bits, 256 columns, 8-bit codebooks', () => {
    expect(resolveLayoutOptions({})).toEqual({
      vectorDim: 2,
      bits: 2,
      trellisBits: 0,
      indexWidths: 'fitted',
      groupSize: undefined,
      columnsPerGroup: 256,
      bpv: undefined,
      codebookBits: 8,
      scaleBlockSize: 64,
      columnOrder: 'natural',
    })
  })

  it('takes scales of 64 where groups are whole blocks of 64 columns and bpv leaves room for them', () => {
    const sizeFor = (options: LayoutOptions) => resolveLayoutOptions(options).scaleBlockSize
    expect(sizeFor({ groupSize: 4096, columnsPerGroup: 128 })).toBe(64)
    expect(sizeFor({ columnsPerGroup: 96 })).toBeUndefined()
    expect(sizeFor({ groupSize: 32 })).toBeUndefined()
    expect(sizeFor({ bpv: 2.125 })).toBe(64)
    expect(sizeFor({ bits: 3, bpv: 3.1 })).toBe(64)
    expect(sizeFor({ bpv: 2.09 })).toBeUndefined()
    expect(sizeFor({ bpv: 2.09, scaleBlockSize: 64 })).toBe(64)
    expect(sizeFor({ scaleBlockSize: 'none' })).toBeUndefined()
  })

  it('takes any bits of one a vector or more, with a trellis', () => {
    const bitsFor = (options: LayoutOptions) => resolveLayoutOptions({ trellisBits: 1, ...options }).bits
    for (const bits of [0.5, 1.3, 2.77]) expect(bitsFor({ bits })).toBe(bits)
    expect(thrownBy(() => bitsFor({ bits: 0.4 }))).toMatchObject({ option: 'bits' })
    expect(thrownBy(() => bitsFor({ vectorDim: 1, bits: 0.5 }))).toMatchObject({ option: 'bits' })
    expect(thrownBy(() => resolveLayoutOptions({ indexWidths: 'same' }))).toMatchObject({
      option: 'indexWidths',
    })
  })

  it('takes bits that make whole indices where all have the same width', () => {
    const bitsFor = (options: LayoutOptions) =>
      resolveLayoutOptions({ trellisBits: 1, indexWidths: 'same', ...options }).bits
    expect(bitsFor({ bits: 1.5 })).toBe(1.5)
    expect(bitsFor({ vectorDim: 4, bits: 1.25 })).toBe(1.25)
    expect(thrownBy(() => bitsFor({ bits: 1.25 }))).toMatchObject({ option: 'bits' })
    expect(thrownBy(() => bitsFor({ vectorDim: 1, bits: 1.5 }))).toMatchObject({ option: 'bits' })
    expect(bitsFor({ bits: 0.5 })).toBe(0.5)
    expect(thrownBy(() => resolveLayoutOptions({ bits: 1.5 }))).toMatchObject({ option: 'bits' })
  })

  it('refuses a trellis of more centroids than the constant codebook has, or of other bits', () => {
    expect(resolveLayoutOptions({ trellisBits: 8 }).trellisBits).toBe(8)
    const optionOf = (options: LayoutOptions) => thrownBy(() => resolveLayoutOptions(options))
    expect(optionOf({ trellisBits: 9 })).toMatchObject({
      option: 'trellisBits',
      message: expect.stringMatching(/8192 centroids, at most 4096 .*use 8 or fewer/),
    })
    expect(optionOf({ bits: 8, trellisBits: 1 })).toMatchObject({ option: 'trellisBits' })
    expect(optionOf({ trellisBits: -1 })).toMatchObject({ option: 'trellisBits' })
    expect(optionOf({ trellisBits: 2.5 })).toMatchObject({ option: 'trellisBits' })
    expect(optionOf({ trellisBits: 2, codebookBits: 16 })).toMatchObject({ option: 'codebookBits' })
  })

  it('gives a trellis scales of 64 where bpv leaves room for these alone', () => {
    const sizeFor = (options: LayoutOptions) =>
      resolveLayoutOptions({ trellisBits: 8, ...options }).scaleBlockSize
    expect(sizeFor({ indexWidths: 'same', bpv: 2.08 })).toBe(64)
    expect(sizeFor({ indexWidths: 'same', bpv: 2.05 })).toBeUndefined()
    expect(sizeFor({ bpv: 0.6 })).toBe(64)
    expect(sizeFor({ bpv: 0.55 })).toBeUndefined()
  })

  it('spans a group over 256 columns, or over as many as it has weights', () => {
    expect(resolveLayoutOptions({ groupSize: 1024 }).columnsPerGroup).toBe(256)
    expect(resolveLayoutOptions({ groupSize: 64 }).columnsPerGroup).toBe(64)
    expect(resolveLayoutOptions({ groupSize: 1024, columnsPerGroup: 128 }).columnsPerGroup).toBe(128)
  })

  it('accepts every pair of vectorDim and bits of at most 65536 centroids', () => {
    for (const vectorDim of [1, 2, 4] as const) {
      for (let bits = 1; bits <= Math.min(8, 16 / vectorDim); bits++) {
        expect(resolveLayoutOptions({ vectorDim, bits })).toMatchObject({ vectorDim, bits })
      }
    }
  })

  it.each<[string, LayoutOptions, RegExp]>([
    ['vectorDim', { vectorDim: 3 as 2 }, /one of 1, 2, 4, got 3/],
    ['vectorDim', { vectorDim: 0 as 2 }, /got 0/],
    ['vectorDim', { vectorDim: '2' as unknown as 2 }, /got "2"/],
    ['bits', { bits: 0 }, /from 1 to 8, got 0/],
    ['bits', { bits: 9, vectorDim: 1 }, /from 1 to 8, got 9/],
    ['bits', { bits: 2.5 }, /got 2\.5/],
    ['bits', { bits: Number.NaN }, /got NaN/],
    ['bits', { bits: 5, vectorDim: 4 }, /1048576 centroids.* 65536 .*use 4 bits or fewer/],
    ['codebookBits', { codebookBits: 4 as 8 }, /one of 8, 16, got 4/],
    ['groupSize', { groupSize: 0 }, /got 0/],
    ['groupSize', { groupSize: 300.5 }, /got 300\.5/],
    ['groupSize', { groupSize: Number.POSITIVE_INFINITY }, /got Infinity/],
    ['groupSize', { groupSize: 3, vectorDim: 4 }, /3 weights is smaller than a vector of 4/],
    ['groupSize', { groupSize: 16 }, /8 vectors, fewer than its 16 centroids; use at least 32/],
    ['groupSize', { groupSize: 33 }, /multiple of vectorDim \(2\), got 33/],
    ['groupSize', { groupSize: 300 }, /multiple of columnsPerGroup \(256\), got 300/],
    ['groupSize', { groupSize: 128, columnsPerGroup: 256 }, /multiple of columnsPerGroup \(256\), got 128/],
    ['columnsPerGroup', { columnsPerGroup: 0 }, /at least 2, got 0/],
    ['columnsPerGroup', { columnsPerGroup: 2, vectorDim: 4 }, /at least 4, got 2/],
    ['columnsPerGroup', { columnsPerGroup: 7 }, /multiple of vectorDim \(2\), got 7/],
    ['columnsPerGroup', { columnsPerGroup: Number.NaN }, /got NaN/],
    ['scaleBlockSize', { scaleBlockSize: 8 as 16 }, /one of none, 16, 32, 64, 128, got 8/],
    ['scaleBlockSize', { scaleBlockSize: Number.NaN as 16 }, /got NaN/],
    [
      'scaleBlockSize',
      { scaleBlockSize: 32, columnsPerGroup: 48 },
      /32 .*columnsPerGroup \(48\).*multiple of 32/,
    ],
    ['scaleBlockSize', { scaleBlockSize: 128, groupSize: 64 }, /128 .*columnsPerGroup \(64\)/],
    ['columnOrder', { columnOrder: 'random' as 'natural' }, /one of natural, activation, got random/],
    ['bpv', { bpv: 2 }, /more than the 2 index bits per weight, got 2/],
    ['bpv', { bpv: Number.NaN }, /got NaN/],
    ['bpv', { bpv: Number.POSITIVE_INFINITY }, /got Infinity/],
    ['bpv', { bpv: 2.25, groupSize: 1024 }, /bpv \(2\.25\) or groupSize \(1024\), not both/],
  ])('refuses a bad %s by name: %o', (option, options, message) => {
    const error = thrownBy(() => resolveLayoutOptions(options))
    expect(error).toBeInstanceOf(OptionError)
    expect((error as OptionError).option).toBe(option)
    expect((error as Error).message).toMatch(message)
    expect((error as Error).message.startsWith(`${option}: `)).toBe(true)
  })

  it('accepts the least group size that its error advises', () => {
    expect(() => resolveLayoutOptions({ groupSize: 32 })).not.toThrow()
    expect(() => resolveLayoutOptions({ groupSize: 31 })).toThrow('at least 32')
  })
})
