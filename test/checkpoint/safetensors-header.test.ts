import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DTYPES, tensorBytes } from '../../src/checkpoint/dtype.js'
import {
  buildHeader,
  headerLength,
  parseHeader,
} from '../../src/checkpoint/safetensors/safetensors-header.js'
import { CheckpointError } from '../../src/common/errors.js'

const encode = (text: string) => new TextEncoder().encode(text)

/** Parses a header text as of a file with `dataBytes` after it. */
const parse = (text: string, dataBytes: number) => {
  const bytes = encode(text)
  return parseHeader(bytes, 8 + bytes.length + dataBytes, 'x.safetensors')
}

const record = (shape: string, offsets: string, dtype = '"U8"') =>
  `{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`

describe('parseHeader', () => {
  it('reads tensors, their places and the metadata of a header written by hand', () => {
    const text = ` {
      "b": {"shape": [2, 3], "dtype": "F16", "data_offsets": [4, 16]}, "__metadata__": {"format": "pt", "": "\\u00e9"},
      "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    }  \n`.trimStart()
    const { metadata, tensors } = parse(text, 16)
    const dataStart = 8 + encode(text).length
    expect([...metadata]).toEqual([
      ['format', 'pt'],
      ['', 'é'],
    ])
    expect([...tensors.values()]).toEqual([
      { name: 'b', dtype: 'F16', shape: [2, 3], position: dataStart + 4, bytes: 12 },
      { name: 'a', dtype: 'F32', shape: [], position: dataStart, bytes: 4 },
    ])
  })

  it('takes an empty file, scalars and tensors without elements, wherever these lie', () => {
    expect(parse('{}', 0).tensors.size).toBe(0)
    const { tensors } = parse(
      `{"first":${record('[0]', '[0,0]')},"s":${record('[]', '[0,1]')},"mid":${record('[3,0]', '[1,1]')},` +
        `"t":${record('[2]', '[1,3]')},"last":${record('[0]', '[3,3]')}}`,
      3,
    )
    expect([...tensors.values()].map(({ name, bytes }) => [name, bytes])).toEqual([
      ['first', 0],
      ['s', 1],
      ['mid', 0],
      ['t', 2],
      ['last', 0],
    ])
  })

  it('treats names like __proto__ and constructor as names', () => {
    const { tensors, metadata } = parse(
      `{"__proto__":${record('[1]', '[0,1]')},"constructor":${record('[1]', '[1,2]')},"__metadata__":{"__proto__":"x"}}`,
      2,
    )
    expect([...tensors.keys()]).toEqual(['__proto__', 'constructor'])
    expect(metadata.get('__proto__')).toBe('x')
    expect(({} as Record<string, unknown>).dtype).toBeUndefined()
  })

  const one = record('[1]', '[0,1]')
  const refused: [what: string, text: string, dataBytes: number, message: RegExp][] = [
    ['a header not beginning with a brace', ' {}', 0, /does not begin with "\{"/],
    ['an empty header', '', 0, /does not begin/],
    ['a header that is a list', '[]', 0, /does not begin/],
    ['JSON that stops', '{"a":', 0, /found its end/],
    ['text without a closing quote', '{"a', 0, /no closing quote/],
    ['text that ends in a backslash', '{"a\\', 0, /no closing quote/],
    ['a control character in text', '{"a\n":1}', 0, /not valid JSON text/],
    ['half a surrogate pair', `{"\\ud800":${one}}`, 1, /not valid JSON text/],
    ['a trailing comma', `{"a":${one},}`, 1, /expected a name/],
    ['more after the closing brace', `{"a":${one}} {}`, 1, /nothing after the closing brace/],
    ['a tensor that is null', '{"a":null}', 0, /expected an object for tensor "a"/],
    ['nested JSON', `{"a":${'['.repeat(100_000)}`, 0, /expected an object/],
    [
      'a duplicate tensor',
      `{"a":${one},"a":${record('[1]', '[1,2]')}}`,
      2,
      /"a" appears twice in the header/,
    ],
    ['a duplicate tensor, once escaped', `{"a":${one},"\\u0061":${one}}`, 1, /"a" appears twice/],
    ['two metadata objects', '{"__metadata__":{},"__metadata__":{}}', 0, /"__metadata__" appears twice/],
    [
      'a duplicate key of metadata',
      '{"__metadata__":{"k":"1","k":"2"}}',
      0,
      /"k" appears twice in __metadata__/,
    ],
    [
      'a duplicate field',
      '{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
      1,
      /"dtype" appears twice/,
    ],
    ['an unknown field', '{"a":{"dtype":"U8","x":1}}', 1, /field "x"/],
    ['a missing dtype', '{"a":{"shape":[1],"data_offsets":[0,1]}}', 1, /no dtype/],
    ['a missing shape', '{"a":{"dtype":"U8","data_offsets":[0,1]}}', 1, /no shape/],
    ['missing offsets', '{"a":{"dtype":"U8","shape":[1]}}', 1, /no pair of data_offsets/],
    ['a single offset', `{"a":${record('[1]', '[0]')}}`, 1, /no pair of data_offsets/],
    ['three offsets', `{"a":${record('[1]', '[0,1,2]')}}`, 1, /more than 2/],
    ['metadata that is a list', '{"__metadata__":[]}', 0, /expected an object for __metadata__/],
    ['metadata with a number', '{"__metadata__":{"k":1}}', 0, /expected text as the value of "k"/],
    ['metadata that is a tensor', `{"__metadata__":${one}}`, 1, /value of "shape" in __metadata__/],
    [
      'a dtype of an unknown name',
      `{"a":${record('[1]', '[0,1]', '"F8_E4M3"')}}`,
      1,
      /"F8_E4M3".*expected one of F64/,
    ],
    [
      'a dtype of a name that objects inherit',
      `{"a":${record('[1]', '[0,1]', '"toString"')}}`,
      1,
      /"toString"/,
    ],
    ['a dtype that is a number', `{"a":${record('[1]', '[0,1]', '8')}}`, 1, /expected text as the dtype/],
    [
      'a negative size',
      `{"a":${record('[-1]', '[0,1]')}}`,
      1,
      /shape of tensor "a" holds -1; expected whole/,
    ],
    ['a fraction', `{"a":${record('[1.5]', '[0,1]')}}`, 1, /holds 1.5/],
    ['a whole number written as a fraction', `{"a":${record('[1.0]', '[0,1]')}}`, 1, /holds 1.0/],
    ['an exponent', `{"a":${record('[1e0]', '[0,1]')}}`, 1, /holds 1e0/],
    ['a leading zero', `{"a":${record('[01]', '[0,1]')}}`, 1, /holds 01/],
    [
      'a size beyond exact integers',
      `{"a":${record('[9007199254740992]', '[0,1]')}}`,
      1,
      /holds 9007199254740992/,
    ],
    ['a number of many digits', `{"a":${record(`[${'9'.repeat(5000)}]`, '[0,1]')}}`, 1, /holds 9+; /],
    ['a size that is text', `{"a":${record('["1"]', '[0,1]')}}`, 1, /expected a number/],
    [
      'more dimensions than any library has',
      `{"a":${record(`[${Array(65).fill(1)}]`, '[0,1]')}}`,
      1,
      /more than 64/,
    ],
    [
      'a shape of other bytes',
      `{"a":${record('[2]', '[0,1]')}}`,
      1,
      /shape \[2\] of U8, that is 2 bytes.*hold 1/,
    ],
    [
      'a shape whose product overflows',
      `{"a":${record('[4294967296,4294967296]', '[0,0]')}}`,
      0,
      /Infinity bytes/,
    ],
    ['offsets that go back', `{"a":${record('[1]', '[1,0]')}}`, 1, /hold -1/],
    [
      'overlapping tensors',
      `{"a":${record('[4]', '[0,4]')},"b":${record('[4]', '[2,6]')}}`,
      6,
      /"b" overlaps tensor "a" by 2/,
    ],
    [
      'a tensor inside another',
      `{"a":${record('[4]', '[0,4]')},"b":${record('[1]', '[1,2]')}}`,
      4,
      /overlaps/,
    ],
    [
      'an empty tensor inside another',
      `{"a":${record('[4]', '[0,4]')},"b":${record('[0]', '[2,2]')}}`,
      4,
      /overlaps/,
    ],
    ['the same bytes for two tensors', `{"a":${one},"b":${one}}`, 1, /overlaps/],
    [
      'a hole between tensors',
      `{"a":${one},"b":${record('[1]', '[3,4]')}}`,
      4,
      /hole of 2 bytes between tensor "a" and tensor "b"/,
    ],
    [
      'a hole before the first tensor',
      `{"a":${record('[1]', '[1,2]')}}`,
      2,
      /hole of 1 bytes between the header and/,
    ],
    ['data that goes on after the tensors', `{"a":${one}}`, 3, /2 bytes follow the end of tensor "a"/],
    ['data without tensors', '{}', 1, /1 bytes follow the end of the header/],
    ['a truncated file', `{"a":${record('[1000]', '[0,1000]')}}`, 400, /truncated.*600 bytes are missing/],
    [
      'offsets far out of range',
      `{"a":${record('[9007199254740991]', '[0,9007199254740991]')}}`,
      8,
      /bytes are missing/,
    ],
  ]
  it.each(refused)('refuses %s', (_, text, dataBytes, message) => {
    expect(() => parse(text, dataBytes)).toThrow(CheckpointError)
    expect(() => parse(text, dataBytes)).toThrow(message)
    expect(() => parse(text, dataBytes)).toThrow(/^x\.safetensors: /)
  })

  it('refuses bytes that are not UTF-8', () => {
    const bytes = Uint8Array.of(0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d)
    expect(() => parseHeader(bytes, 8 + bytes.length, 'x')).toThrow(/not valid UTF-8/)
  })

  it('keeps its messages short however long the names in the file are', () => {
    const name = 'n'.repeat(1_000_000)
    const message = (() => {
      try {
        parse(`{"${name}":${record('[2]', '[0,1]')}}`, 1)
      } catch (error) {
        return (error as Error).message
      }
    })()
    expect(message).toMatch(/"nnn/)
    expect(message!.length).toBeLessThan(1000)
  })
})

describe('headerLength', () => {
  const prefix = (length: bigint) => {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, length, true)
    return bytes
  }

  it('reads the length, also at an odd offset', () => {
    const room = new Uint8Array(9)
    room.set(prefix(300n), 1)
    expect(headerLength(room.subarray(1), 1000, 'x')).toBe(300)
  })

  it('refuses a header over 100 MB, up to the largest number, without being misled by rounding', () => {
    for (const length of [100_000_001n, 2n ** 53n + 1n, 2n ** 64n - 1n]) {
      expect(() => headerLength(prefix(length), 2 ** 40, 'x')).toThrow(
        new RegExp(`${length} bytes, over the limit`),
      )
    }
    expect(headerLength(prefix(100_000_000n), 2 ** 40, 'x')).toBe(100_000_000)
  })

  it('says how many bytes of the header are missing', () => {
    expect(() => headerLength(prefix(300n), 208, 'x')).toThrow(/truncated.*100 bytes are missing/)
  })

  it('refuses files shorter than the length itself, and names a Git LFS pointer', () => {
    expect(() => headerLength(new Uint8Array(3), 3, 'x')).toThrow(/has 3 bytes, too few/)
    expect(() => headerLength(encode('version '), 134, 'x')).toThrow(/git lfs pull/)
  })
})

describe('buildHeader', () => {
  const entry = fc.record({
    name: fc.string({ unit: 'grapheme' }).filter((name) => name !== '__metadata__'),
    dtype: fc.constantFrom(...DTYPES),
    shape: fc.array(fc.nat(50), { maxLength: 4 }),
  })
  const entries = fc.uniqueArray(entry, { selector: ({ name }) => name, maxLength: 20 })
  const notes = fc.dictionary(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }))

  it('is undone by parseHeader, and leaves the data at a multiple of 8 bytes', () => {
    fc.assert(
      fc.property(entries, notes, (list, metadata) => {
        const header = buildHeader(list, metadata)
        expect(header.length % 8).toBe(0)
        const bytes = list.map(({ dtype, shape }) => tensorBytes(dtype, shape))
        const size = header.length + bytes.reduce((sum, n) => sum + n, 0)
        expect(headerLength(header.subarray(0, 8), size, 'x')).toBe(header.length - 8)
        const parsed = parseHeader(header.subarray(8), size, 'x')
        expect(parsed.metadata).toEqual(new Map(Object.entries(metadata)))
        let position = header.length
        const expected = list.map((one, i) => {
          const place = { ...one, bytes: bytes[i], position }
          position += bytes[i]
          return place
        })
        expect([...parsed.tensors.values()]).toEqual(expected)
      }),
    )
  })

  it('writes the bytes the format asks for', () => {
    const header = buildHeader([{ name: 'a', dtype: 'BF16', shape: [2, 3] }], { format: 'pt' })
    const json = '{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}'
    expect(new TextDecoder().decode(header.subarray(8)).trimEnd()).toBe(json)
    expect(header[0]).toBe(Math.ceil(json.length / 8) * 8)
  })

  it('refuses a header beyond the limit and text that is no UTF-8', () => {
    const long = { name: 'n'.repeat(100_000_000), dtype: 'U8', shape: [1] } as const
    expect(() => buildHeader([long])).toThrow(/over the limit of 100000000.*smaller shards/)
    expect(() => buildHeader([{ name: '\ud800', dtype: 'U8', shape: [1] }])).toThrow(CheckpointError)
    expect(() => buildHeader([], { note: '\udc00' })).toThrow(CheckpointError)
  })
})
