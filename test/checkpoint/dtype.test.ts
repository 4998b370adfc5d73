import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  bytesPerElement,
  DTYPES,
  decodeFloats,
  elementCount,
  encodeFloats,
  type FloatDtype,
  isDtype,
  isFloatDtype,
  tensorBytes,
} from '../../src/checkpoint/dtype.js'
import { CheckpointError, ShapeError } from '../../src/common/errors.js'
import { bfloatToFloat, halfToFloat } from '../../src/kernels/half.js'

const FLOATS: FloatDtype[] = ['F64', 'F32', 'F16', 'BF16']

describe('decodeFloats', () => {
  it('agrees with DataView, element by element, at every byte offset', () => {
    const values = [0, -0, 1, -1.5, 3.140625, 65504, -(2 ** -14), Number.POSITIVE_INFINITY, Number.NaN]
    const read: Record<FloatDtype, (view: DataView, at: number) => number> = {
      F64: (view, at) => Math.fround(view.getFloat64(at, true)),
      F32: (view, at) => view.getFloat32(at, true),
      F16: (view, at) => halfToFloat(view.getUint16(at, true)),
      BF16: (view, at) => bfloatToFloat(view.getUint16(at, true)),
    }
    for (const dtype of FLOATS) {
      const size = bytesPerElement(dtype)
      const encoded = encodeFloats(dtype, Float32Array.from(values))
      for (let offset = 0; offset < 8; offset++) {
        const room = new Uint8Array(offset + encoded.length)
        room.set(encoded, offset)
        const view = new DataView(room.buffer, offset)
        const expected = values.map((_, i) => read[dtype](view, i * size))
        expect([...decodeFloats(dtype, room.subarray(offset))]).toEqual(expected)
      }
    }
  })

  it('reads bytes written by hand, little-endian', () => {
    expect([...decodeFloats('F32', Uint8Array.of(0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0))]).toEqual([1, -2])
    expect([...decodeFloats('F64', Uint8Array.of(0, 0, 0, 0, 0, 0, 0xf0, 0x3f))]).toEqual([1])
    expect([...decodeFloats('F16', Uint8Array.of(0x00, 0x3c, 0x01, 0x00))]).toEqual([1, 2 ** -24])
    expect([...decodeFloats('BF16', Uint8Array.of(0x80, 0x3f, 0x40, 0xc0))]).toEqual([1, -3])
  })

  it('writes into the target given and shares no memory with the bytes', () => {
    const bytes = encodeFloats('F32', Float32Array.of(1, 2))
    const target = new Float32Array(2)
    expect(decodeFloats('F32', bytes, target)).toBe(target)
    bytes.fill(0)
    expect([...target]).toEqual([1, 2])
    const fresh = decodeFloats('F32', bytes)
    bytes.fill(0xff)
    expect([...fresh]).toEqual([0, 0])
  })

  it('refuses integers, a part of an element and a target of another length', () => {
    expect(() => decodeFloats('I32', new Uint8Array(4))).toThrow(CheckpointError)
    expect(() => decodeFloats('BOOL', new Uint8Array(4))).toThrow(/BOOL/)
    expect(() => decodeFloats('F32', new Uint8Array(6))).toThrow(ShapeError)
    expect(() => decodeFloats('F16', new Uint8Array(6), new Float32Array(2))).toThrow(ShapeError)
  })
})

describe('encodeFloats', () => {
  it('is undone by decodeFloats, bit for bit, where the dtype holds all float32 values', () => {
    fc.assert(
      fc.property(fc.float32Array(), (values) => {
        for (const dtype of ['F64', 'F32'] as const) {
          expect(decodeFloats(dtype, encodeFloats(dtype, values))).toEqual(values)
        }
      }),
    )
  })

  it('gives back every 16-bit pattern that is not NaN', () => {
    for (const dtype of ['F16', 'BF16'] as const) {
      const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i)
      const floats = decodeFloats(dtype, new Uint8Array(patterns.buffer))
      const again = new Uint16Array(encodeFloats(dtype, floats).buffer)
      const stayedNan = (i: number) =>
        Number.isNaN(decodeFloats(dtype, Uint8Array.of(again[i], again[i] >> 8))[0])
      const changed = patterns.filter((pattern, i) =>
        Number.isNaN(floats[i]) ? !stayedNan(i) : again[i] !== pattern,
      )
      expect(changed).toEqual(new Uint16Array(0))
    }
  })

  it('refuses integer dtypes', () => {
    expect(() => encodeFloats('U8', new Float32Array(1))).toThrow(/U8.*F64, F32, F16 or BF16/)
  })
})

describe('sizes', () => {
  it('gives the bytes of each dtype', () => {
    const sizes = Object.fromEntries(DTYPES.map((dtype) => [dtype, bytesPerElement(dtype)]))
    expect(sizes).toEqual({
      F64: 8,
      F32: 4,
      F16: 2,
      BF16: 2,
      I64: 8,
      I32: 4,
      I16: 2,
      I8: 1,
      U64: 8,
      U32: 4,
      U16: 2,
      U8: 1,
      BOOL: 1,
    })
    expect(DTYPES.filter(isFloatDtype)).toEqual(FLOATS)
    expect(isDtype('F32') && !isDtype('constructor') && !isDtype('F8_E4M3')).toBe(true)
  })

  it('counts elements of scalars, empty tensors and impossible shapes', () => {
    expect(elementCount([])).toBe(1)
    expect(elementCount([3, 4])).toBe(12)
    expect(elementCount([2 ** 50, 2 ** 50, 0])).toBe(0)
    expect(elementCount([2 ** 27, 2 ** 27])).toBe(Number.POSITIVE_INFINITY)
    expect(elementCount([2 ** 52, 2 ** 52, 2 ** 52])).toBe(Number.POSITIVE_INFINITY)
    expect(tensorBytes('F64', [2 ** 51])).toBe(Number.POSITIVE_INFINITY)
    expect(tensorBytes('F64', [2, 3])).toBe(48)
  })
})
