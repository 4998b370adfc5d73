import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { randomGenerator } from '../../src/common/random.js'
import {
  bfloatToFloat,
  decodeBfloats,
  decodeHalves,
  encodeBfloats,
  encodeHalves,
  floatToBfloat,
  floatToHalf,
  halfToFloat,
} from '../../src/kernels/half.js'

interface Format {
  readonly name: string
  readonly exponentBits: number
  readonly mantissaBits: number
  readonly encode: (value: number) => number
  readonly decode: (bits: number) => number
  readonly encodeAll: (source: Float32Array, target: Uint16Array) => void
  readonly decodeAll: (source: Uint16Array, target: Float32Array) => void
}

const half: Format = {
  name: 'half',
  exponentBits: 5,
  mantissaBits: 10,
  encode: floatToHalf,
  decode: halfToFloat,
  encodeAll: encodeHalves,
  decodeAll: decodeHalves,
}

const bfloat: Format = {
  name: 'bfloat',
  exponentBits: 8,
  mantissaBits: 7,
  encode: floatToBfloat,
  decode: bfloatToFloat,
  encodeAll: encodeBfloats,
  decodeAll: decodeBfloats,
}

/** The value of 15 bits without sign, from the definition of IEEE 754; infinity counts as the next power of two. */
function magnitudeOf({ exponentBits, mantissaBits }: Format, bits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1
  const exponent = Math.floor(bits / 2 ** mantissaBits)
  const fraction = (bits % 2 ** mantissaBits) / 2 ** mantissaBits
  return exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias)
}

const infinityBits = ({ exponentBits, mantissaBits }: Format) => (2 ** exponentBits - 1) * 2 ** mantissaBits

/** Nearest of all non-negative patterns by binary search, ties to the even pattern; the sign is copied. */
function nearestBits(format: Format, value: number): number {
  const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0
  const size = Math.abs(value)
  let low = 0
  let high = infinityBits(format)
  if (size >= magnitudeOf(format, high)) return sign | high
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (magnitudeOf(format, middle) <= size) low = middle
    else high = middle
  }
  const below = size - magnitudeOf(format, low)
  const above = magnitudeOf(format, high) - size
  if (below === above) return sign | (low % 2 === 0 ? low : high)
  return sign | (below < above ? low : high)
}

const isNan = (format: Format, bits: number) => (bits & 0x7fff) > infinityBits(format)

function float32OfBits(bits: number): number {
  return new Float32Array(Uint32Array.of(bits).buffer)[0]
}

/** All float32 next to a value: itself and a few steps to both sides. */
function around(value: number): number[] {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]
  return [-2, -1, 0, 1, 2].map((step) => float32OfBits(bits + step)).filter((near) => !Number.isNaN(near))
}

describe.each([half, bfloat])('$name', (format) => {
  const allBits = Uint16Array.from({ length: 65536 }, (_, bits) => bits)

  it('gives every one of the 65536 bit patterns back after decoding and encoding', () => {
    const wrong = allBits.filter((bits) => {
      const again = format.encode(format.decode(bits))
      return isNan(format, bits) ? !isNan(format, again) : again !== bits
    })
    expect([...wrong]).toEqual([])
  })

  it('decodes every finite pattern to the value IEEE 754 defines, and the rest to infinities and NaN', () => {
    const wrong = allBits.filter((bits) => {
      const value = format.decode(bits)
      const size = bits & 0x7fff
      const sign = bits & 0x8000 ? -1 : 1
      if (size > infinityBits(format)) return !Number.isNaN(value)
      if (size === infinityBits(format)) return value !== sign * Number.POSITIVE_INFINITY
      return !Object.is(value, sign * magnitudeOf(format, size))
    })
    expect([...wrong]).toEqual([])
  })

  it('rounds to nearest even at every pattern, at every midpoint and one float32 to either side', () => {
    const wrong: number[] = []
    for (let bits = 0; bits < infinityBits(format); bits++) {
      const value = magnitudeOf(format, bits)
      const midpoint = (value + magnitudeOf(format, bits + 1)) / 2
      for (const near of [...around(value), ...around(midpoint)]) {
        if (format.encode(near) !== nearestBits(format, near)) wrong.push(near)
        if (format.encode(-near) !== nearestBits(format, -near)) wrong.push(-near)
      }
    }
    expect(wrong).toEqual([])
  })

  it('rounds random float32 of every exponent to nearest even', () => {
    const random = randomGenerator(1)
    const wrong: number[] = []
    for (let i = 0; i < 200_000; i++) {
      const value = float32OfBits(Math.floor(random() * 2 ** 32))
      if (!Number.isNaN(value) && format.encode(value) !== nearestBits(format, value)) wrong.push(value)
    }
    expect(wrong).toEqual([])
  })

  it('rounds any double to the pattern of its float32', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (value) => {
        expect(format.encode(value)).toBe(nearestBits(format, Math.fround(value)))
      }),
    )
  })

  it('keeps the sign of zero, infinities, and NaN as NaN whatever its payload', () => {
    expect(format.encode(0)).toBe(0)
    expect(format.encode(-0)).toBe(0x8000)
    expect(format.encode(Number.POSITIVE_INFINITY)).toBe(infinityBits(format))
    expect(format.encode(Number.NEGATIVE_INFINITY)).toBe(0x8000 | infinityBits(format))
    for (const bits of [0x7f800001, 0x7fffffff, 0xff800001, 0x7fc00000, 0x7f810000, 0x7f80ffff]) {
      expect(isNan(format, format.encode(float32OfBits(bits)))).toBe(true)
      const target = new Uint16Array(1)
      format.encodeAll(new Float32Array(Uint32Array.of(bits).buffer), target)
      expect(isNan(format, target[0])).toBe(true)
    }
  })

  it('decodes whole arrays as it decodes single values', () => {
    const decoded = new Float32Array(65536)
    format.decodeAll(allBits, decoded)
    expect(allBits.filter((bits) => !Object.is(decoded[bits], format.decode(bits)))).toHaveLength(0)
  })

  it('encodes whole arrays as it encodes single values, also from the middle of a buffer', () => {
    const random = randomGenerator(2)
    const buffer = Uint32Array.from({ length: 50_000 }, () => random() * 2 ** 32).buffer
    const source = new Float32Array(buffer, 12).map((value) => (Number.isNaN(value) ? 1 : value))
    const encoded = new Uint16Array(source.length)
    format.encodeAll(source, encoded)
    expect(source.filter((value, i) => encoded[i] !== format.encode(value))).toHaveLength(0)

    const decoded = new Float32Array(source.length + 5)
    format.decodeAll(encoded, decoded.subarray(5))
    expect(encoded.filter((bits, i) => decoded[i + 5] !== format.decode(bits))).toHaveLength(0)
    expect([...decoded.subarray(0, 5)]).toEqual([0, 0, 0, 0, 0])
  })
})

describe('known bit patterns', () => {
  it.each([
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.996, 0x7bff],
    [65520, 0x7c00],
    [-65520, 0xfc00],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [3 * 2 ** -25, 0x0002],
    [1.0000001 * 2 ** -25, 0x0001],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
  ])('half: %d is stored as its nearest pattern', (value, bits) => {
    expect(floatToHalf(value)).toBe(bits)
  })

  it.each([
    [1, 0x3f80],
    [-2, 0xc000],
    [1 + 2 ** -8, 0x3f80],
    [1 + 3 * 2 ** -8, 0x3f82],
    [3.4e38, 0x7f80],
    [-0, 0x8000],
  ])('bfloat: %d is stored as its nearest pattern', (value, bits) => {
    expect(floatToBfloat(value)).toBe(bits)
  })
})
