import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { packedRowBytes, packIndices, unpackIndices } from '../../src/kernels/bits.js'

const indexRows = fc
  .record({
    width: fc.integer({ min: 1, max: 16 }),
    rows: fc.integer({ min: 1, max: 4 }),
    perRow: fc.integer({ min: 1, max: 70 }),
  })
  .chain((shape) =>
    fc.record({
      shape: fc.constant(shape),
      indices: fc.array(fc.integer({ min: 0, max: 2 ** shape.width - 1 }), {
        minLength: shape.rows * shape.perRow,
        maxLength: shape.rows * shape.perRow,
      }),
    }),
  )

/** A row as one big number: index i stands at bit i * width. */
function packedByBigInt(row: number[], width: number): number[] {
  let bits = 0n
  for (const [i, index] of row.entries()) bits |= BigInt(index) << BigInt(i * width)
  return Array.from({ length: Math.ceil((row.length * width) / 8) }, (_, byte) =>
    Number((bits >> BigInt(8 * byte)) & 255n),
  )
}

function pack(indices: number[], rows: number, perRow: number, width: number): Uint8Array {
  const packed = new Uint8Array(rows * packedRowBytes(perRow, width))
  packIndices(Uint16Array.from(indices), rows, perRow, width, packed)
  return packed
}

describe('packIndices', () => {
  it('lays indices out least significant bit first: 3-bit 1, 2, 3, 4, 5, 6, 7, 0 by hand', () => {
    // bits from the least significant: 100 010 110 001 101 011 111 000
    // in bytes, most significant bit first: 11010001 01011000 00011111
    expect([...pack([1, 2, 3, 4, 5, 6, 7, 0], 1, 8, 3)]).toEqual([0b11010001, 0b01011000, 0b00011111])
  })

  it('starts every row on a byte and leaves the bits that fill the last byte zero', () => {
    // two rows of three 3-bit indices: 9 bits, so 2 bytes a row
    expect([...pack([7, 7, 7, 1, 0, 4], 2, 3, 3)]).toEqual([0xff, 0x01, 0x01, 0x01])
  })

  it('puts the low byte of a 16-bit index first', () => {
    expect([...pack([0x1234, 0xfffe], 1, 2, 16)]).toEqual([0x34, 0x12, 0xfe, 0xff])
  })

  it('equals a shift of one big number, for widths 1 to 16 and any row length', () => {
    fc.assert(
      fc.property(indexRows, ({ shape: { width, rows, perRow }, indices }) => {
        const expected = Array.from({ length: rows }, (_, r) =>
          packedByBigInt(indices.slice(r * perRow, (r + 1) * perRow), width),
        ).flat()
        expect([...pack(indices, rows, perRow, width)]).toEqual(expected)
      }),
      { numRuns: 400 },
    )
  })
})

describe('unpackIndices', () => {
  it('gives back what was packed, for widths 1 to 16 and any row length', () => {
    fc.assert(
      fc.property(indexRows, ({ shape: { width, rows, perRow }, indices }) => {
        const unpacked = new Uint16Array(rows * perRow)
        unpackIndices(pack(indices, rows, perRow, width), rows, perRow, width, unpacked)
        expect([...unpacked]).toEqual(indices)
      }),
      { numRuns: 400 },
    )
  })

  it('works on bytes as on 16-bit indices where the width allows', () => {
    fc.assert(
      fc.property(indexRows, ({ shape: { width, rows, perRow }, indices }) => {
        const narrow = Math.min(width, 8)
        const bytes = Uint8Array.from(indices, (index) => index % 2 ** narrow)
        const packed = new Uint8Array(rows * packedRowBytes(perRow, narrow))
        packIndices(bytes, rows, perRow, narrow, packed)
        expect(packed).toEqual(pack([...bytes], rows, perRow, narrow))
        const unpacked = new Uint8Array(rows * perRow)
        unpackIndices(packed, rows, perRow, narrow, unpacked)
        expect(unpacked).toEqual(bytes)
      }),
    )
  })

  it('reads every index at full width when all bits are set', () => {
    for (let width = 1; width <= 16; width++) {
      const unpacked = new Uint16Array(13)
      unpackIndices(new Uint8Array(packedRowBytes(13, width)).fill(255), 1, 13, width, unpacked)
      expect([...unpacked]).toEqual(Array(13).fill(2 ** width - 1))
    }
  })
})

describe('packedRowBytes', () => {
  it('is the least number of whole bytes', () => {
    for (let width = 1; width <= 16; width++) {
      for (let perRow = 1; perRow <= 40; perRow++) {
        const bytes = packedRowBytes(perRow, width)
        expect(8 * bytes).toBeGreaterThanOrEqual(perRow * width)
        expect(8 * (bytes - 1)).toBeLessThan(perRow * width)
      }
    }
  })
})
