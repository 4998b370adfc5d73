import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type CodebookBits,
  type CodebookElements,
  codebookElements,
  loadCodebook,
  storeCodebook,
} from '../../src/codebook/store-codebook.js'
import { NumericError } from '../../src/common/errors.js'
import { randomGenerator } from '../../src/common/random.js'
import { bfloatToFloat, floatToBfloat } from '../../src/kernels/half.js'
import { gaussianMatrix } from '../support/random-matrix.js'
import { thrownBy } from '../support/tolerance.js'

interface Stored {
  readonly elements: CodebookElements
  readonly scale: number
  readonly loaded: Float32Array
}

/** Stores and loads as a checkpoint does: the scale passes through bfloat16. */
function stored(codebook: Float32Array, bits: CodebookBits): Stored {
  const elements = codebookElements(bits, codebook.length)
  const scale = bfloatToFloat(floatToBfloat(storeCodebook(codebook, elements, 0)))
  const loaded = new Float32Array(codebook.length)
  loadCodebook(elements, 0, scale, loaded)
  return { elements, scale, loaded }
}

const largestOf = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)

/** Codebooks of sizes from 1e-30 to 1e37, some with elements a million times smaller than the first. */
const codebooks = fc
  .record({
    length: fc.integer({ min: 1, max: 40 }),
    exponent: fc.integer({ min: -30, max: 37 }),
    wild: fc.boolean(),
    seed: fc.nat(1e6),
  })
  .map(({ length, exponent, wild, seed }) => {
    const { data } = gaussianMatrix(length, 1, seed)
    const random = randomGenerator(seed)
    const codebook = data.map((value) => 10 ** exponent * value * (wild ? 10 ** (-6 * random()) : 1))
    codebook[0] = 10 ** exponent * (1 + random()) * Math.sign(data[0])
    return codebook
  })

describe('storeCodebook with 8 bits', () => {
  it('errs by half a scale at most, the scale being the bfloat16 next above the largest value over 127', () => {
    fc.assert(
      fc.property(codebooks, (codebook) => {
        const { elements, scale, loaded } = stored(codebook, 8)
        expect(bfloatToFloat(floatToBfloat(scale))).toBe(scale)
        expect(scale * 127).toBeGreaterThanOrEqual(largestOf(codebook))
        expect(bfloatToFloat(floatToBfloat(scale) - 1) * 127).toBeLessThan(largestOf(codebook))
        for (const [i, value] of codebook.entries()) {
          expect(loaded[i]).toBe(elements[i] * scale)
          expect(Math.abs(loaded[i] - value)).toBeLessThanOrEqual(scale / 2)
          expect(Math.abs(elements[i])).toBeLessThanOrEqual(127)
        }
      }),
    )
  })

  it('is symmetric: the negated codebook loads as the negated values', () => {
    const { data } = gaussianMatrix(50, 1, 1)
    const { loaded } = stored(data, 8)
    const negated = stored(
      data.map((value) => -value),
      8,
    ).loaded
    expect(negated.every((value, i) => value === -loaded[i])).toBe(true)
  })

  it('errs no more in what it loaded than in the codebook itself', () => {
    fc.assert(
      fc.property(codebooks, (codebook) => {
        const once = stored(codebook, 8)
        const twice = stored(once.loaded, 8)
        expect(twice.scale).toBeLessThanOrEqual(once.scale)
        for (const [i, value] of once.loaded.entries()) {
          expect(Math.abs(twice.loaded[i] - value)).toBeLessThanOrEqual(twice.scale / 2)
        }
      }),
    )
  })
})

describe('storeCodebook with 16 bits', () => {
  it('errs by 2^-11 of each value at most, down to 2^-14 of the largest', () => {
    fc.assert(
      fc.property(codebooks, (codebook) => {
        const { scale, loaded } = stored(codebook, 16)
        for (const [i, value] of codebook.entries()) {
          // below 2^-14 of the scale halves are subnormal: evenly spaced
          const allowed = Math.max(2 ** -11 * Math.abs(value), 2 ** -25 * scale)
          expect(Math.abs(loaded[i] - value)).toBeLessThanOrEqual(allowed)
        }
      }),
      { numRuns: 300 },
    )
  })

  it('scales by the power of two next above the largest value', () => {
    fc.assert(
      fc.property(codebooks, (codebook) => {
        const { scale } = stored(codebook, 16)
        expect(Number.isInteger(Math.log2(scale))).toBe(true)
        expect(largestOf(codebook)).toBeLessThanOrEqual(scale)
        expect(largestOf(codebook)).toBeGreaterThan(scale / 2)
      }),
    )
  })

  it('gives back exactly what it loaded when that is stored again', () => {
    fc.assert(
      fc.property(codebooks, (codebook) => {
        const { loaded } = stored(codebook, 16)
        expect(stored(loaded, 16).loaded).toEqual(loaded)
      }),
    )
  })

  it('keeps halves exactly', () => {
    const halves = Float32Array.of(1, -0.5, 0.0999755859375, 2 ** -14, 0)
    expect(stored(halves, 16).loaded).toEqual(halves)
  })
})

describe.each<CodebookBits>([8, 16])('storeCodebook with %d bits', (bits) => {
  it('stores a codebook of zeros as zeros with scale 0, over whatever stood there', () => {
    const elements = codebookElements(bits, 5).fill(7)
    expect(storeCodebook(new Float32Array(3), elements, 1)).toBe(0)
    expect([...elements]).toEqual([7, 0, 0, 0, 7])
    const loaded = new Float32Array(3).fill(9)
    loadCodebook(elements, 1, 0, loaded)
    expect([...loaded]).toEqual([0, 0, 0])
  })

  it('writes and reads at its offset only', () => {
    const { data } = gaussianMatrix(4, 1, 2)
    const alone = stored(data, bits)
    const elements = codebookElements(bits, 9).fill(5)
    expect(Math.fround(storeCodebook(data, elements, 3))).toBe(alone.scale)
    expect([...elements.subarray(3, 7)]).toEqual([...alone.elements])
    expect([...elements.subarray(0, 3), ...elements.subarray(7)]).toEqual([5, 5, 5, 5, 5])
    const loaded = new Float32Array(4)
    loadCodebook(elements, 3, alone.scale, loaded)
    expect(loaded).toEqual(alone.loaded)
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'refuses %d by value',
    (value) => {
      const error = thrownBy(() => storeCodebook(Float32Array.of(1, value), codebookElements(bits, 2), 0))
      expect(error).toBeInstanceOf(NumericError)
      expect((error as Error).message).toContain(`holds ${value}`)
    },
  )

  it('stores the largest float32 in halves without infinity', () => {
    const codebook = Float32Array.of(3.4e38, -1.7e38)
    const elements = codebookElements(16, 2)
    const scale = storeCodebook(codebook, elements, 0)
    const loaded = new Float32Array(2)
    loadCodebook(elements, 0, scale, loaded)
    for (let i = 0; i < 2; i++) expect(Math.abs(loaded[i] / codebook[i] - 1)).toBeLessThan(2 ** -11)
  })

  it('stores the smallest float32 without NaN', () => {
    const { loaded } = stored(Float32Array.of(1e-45, -1e-44, 1e-40), bits)
    expect(loaded.every(Number.isFinite)).toBe(true)
  })
})

describe('codebookElements', () => {
  it('makes signed bytes for 8 bits and 16-bit words for halves', () => {
    expect(codebookElements(8, 3)).toEqual(new Int8Array(3))
    expect(codebookElements(16, 3)).toEqual(new Uint16Array(3))
  })
})
