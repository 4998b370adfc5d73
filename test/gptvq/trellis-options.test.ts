import { describe, expect, it } from 'vitest'
import { resolveVqOptions, type VqOptions } from '../../src/gptvq/options.js'

const trellisFor = (options: VqOptions) => resolveVqOptions(options).trellisBits

describe('the trellis that bits get by default', () => {
  it('has 12 bits in all', () => {
    expect(trellisFor({})).toBe(8)
    expect(trellisFor({ bits: 0.5 })).toBe(11)
    expect(trellisFor({ bits: 1.7 })).toBe(9)
    expect(trellisFor({ bits: 5 })).toBe(7)
    expect(trellisFor({ bits: 8 })).toBe(4)
  })

  it('gives way to plain codebooks where these can have the bits and the rows above have few to add', () => {
    expect(trellisFor({ bits: 5, vectorDim: 2 })).toBe(2)
    expect(trellisFor({ bits: 6, vectorDim: 2 })).toBe(0)
    expect(trellisFor({ bits: 3, vectorDim: 4 })).toBe(0)
  })

  it('takes bits that are not whole as long as an index leaves one to the rows above', () => {
    expect(trellisFor({ bits: 5.5, vectorDim: 2 })).toBe(1)
    expect(trellisFor({ bits: 2.75, vectorDim: 4 })).toBe(1)
    const [taken, refused] = [
      { 2: 5.7, 4: 2.87 },
      { 2: 5.8, 4: 2.9 },
    ] as const
    for (const vectorDim of [2, 4] as const) {
      expect(trellisFor({ bits: taken[vectorDim], vectorDim })).toBe(1)
      const bits = refused[vectorDim]
      expect(() => trellisFor({ bits, vectorDim })).toThrow(
        new RegExp(`^bits: .*got ${bits}.*product with vectorDim \\(${vectorDim}\\) rounds to 11 at most`),
      )
    }
  })

  it('is of single weights where an index of two would leave too few to the rows above', () => {
    const dimFor = (options: VqOptions) => resolveVqOptions(options).vectorDim
    for (const few of [{}, { bits: 3 }, { bits: 3.7 }, { bits: 3, bpv: 3.8 }]) expect(dimFor(few)).toBe(2)
    for (const many of [{ bits: 3.75 }, { bits: 4 }, { bits: 6.5 }, { bpv: 3.875 }, { bits: 3, bpv: 4.25 }])
      expect(dimFor(many)).toBe(1)
    expect(dimFor({ bits: 2, bpv: 4, indexWidths: 'same' })).toBe(2)
    // what else is given was chosen for pairs
    for (const given of [
      { trellisBits: 4 },
      { trellisBits: 0 },
      { restarts: 2 },
      { codebookBits: 16 },
    ] as const)
      expect(dimFor({ bits: 4, ...given })).toBe(2)
  })

  it('names the fewest bits where an index has too few', () => {
    expect(() => trellisFor({ bits: 0.1 })).toThrow('bits: expected a number from 0.5 to 8, got 0.1')
    expect(() => trellisFor({ bits: 0.3, vectorDim: 4 })).not.toThrow()
  })

  it('is no way out for bits that are not whole where an option asks for plain codebooks', () => {
    for (const plain of [{ restarts: 2 }, { codebookBits: 16 }, { trellisBits: 0 }] as const)
      expect(() => trellisFor({ bits: 2.5, ...plain })).toThrow(/whole number from 1 to 8, got 2\.5.*plain/)
  })
})
