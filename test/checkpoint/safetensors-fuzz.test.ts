import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DTYPES, tensorBytes } from '../../src/checkpoint/dtype.js'
import { readSafetensors } from '../../src/checkpoint/safetensors/safetensors-reader.js'
import { CheckpointError } from '../../src/common/errors.js'
import { arraySource, close, fileOf, validFile } from './fixtures.js'

/** Largest file that the mutations below can make. */
const MAX_FILE_BYTES = 200_000

/**
 * Opens a file and reads every tensor. Throws anything but a CheckpointError on to the test, and checks that no
 * range was asked for, and so no memory taken, beyond the size of the file.
 *
 * @returns whether the file was taken
 */
async function openAndReadAll(bytes: Uint8Array): Promise<boolean> {
  const source = arraySource(bytes)
  try {
    const file = await readSafetensors(source, close)
    let read = 0
    for (const [name, info] of file.tensors) {
      const data = await file.read(name)
      expect(data.length).toBe(info.bytes)
      expect(data.length).toBe(tensorBytes(info.dtype, info.shape))
      read += data.length
    }
    const [, [, headerBytes]] = source.asked
    expect(8 + headerBytes + read).toBe(bytes.length)
    return true
  } catch (error) {
    if (error instanceof CheckpointError) {
      expect(error.message.length).toBeLessThan(2000)
      return false
    }
    throw error
  } finally {
    for (const [position, length] of source.asked) {
      expect(position >= 0 && length >= 0 && position + length <= bytes.length).toBe(true)
    }
  }
}

const tensor = fc
  .record({
    name: fc.oneof(fc.string({ maxLength: 12 }), fc.constantFrom('__proto__', 'a.weight', 'a.bias', 'é')),
    dtype: fc.constantFrom(...DTYPES),
    shape: fc.array(fc.nat(6), { maxLength: 3 }),
  })
  .filter(({ name }) => name !== '__metadata__')
  .chain((entry) => {
    const length = tensorBytes(entry.dtype, entry.shape)
    return fc.uint8Array({ minLength: length, maxLength: length }).map((data) => ({ ...entry, data }))
  })

const validFiles = fc
  .record({
    tensors: fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 6 }),
    metadata: fc.dictionary(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), { maxKeys: 3 }),
  })
  .map(({ tensors, metadata }) => validFile(tensors, metadata))

const headerOf = (file: Uint8Array) => {
  const length = Number(new DataView(file.buffer).getBigUint64(0, true))
  return { text: new TextDecoder().decode(file.subarray(8, 8 + length)), data: file.subarray(8 + length) }
}

/** A place in a file: fractions stay valid while fast-check shrinks the file. */
const place = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
const at = (fraction: number, length: number) => Math.floor(fraction * length)

type Mutation = (file: Uint8Array) => Uint8Array

const flipBit: fc.Arbitrary<Mutation> = fc.tuple(place, fc.nat(7)).map(([where, bit]) => (file) => {
  const copy = file.slice()
  if (copy.length > 0) copy[at(where, copy.length)] ^= 1 << bit
  return copy
})

const truncate: fc.Arbitrary<Mutation> = place.map((where) => (file) => file.slice(0, at(where, file.length)))

const insert: fc.Arbitrary<Mutation> = fc
  .tuple(place, fc.uint8Array({ minLength: 1, maxLength: 40 }))
  .map(([where, bytes]) => (file) => {
    const cut = at(where, file.length + 1)
    return new Uint8Array(Buffer.concat([file.subarray(0, cut), bytes, file.subarray(cut)]))
  })

const remove: fc.Arbitrary<Mutation> = fc
  .tuple(place, fc.integer({ min: 1, max: 20 }))
  .map(([where, count]) => (file) => {
    const cut = at(where, file.length)
    return new Uint8Array(Buffer.concat([file.subarray(0, cut), file.subarray(cut + count)]))
  })

/** Sets the declared length of the header, often to something huge. */
const setHeaderLength: fc.Arbitrary<Mutation> = fc
  .oneof(
    fc.bigInt(0n, 2n ** 64n - 1n),
    fc.bigInt(0n, 400n),
    fc.constantFrom(100_000_000n, 2n ** 53n, 2n ** 64n - 1n),
  )
  .map((length) => (file) => {
    const copy = file.slice()
    if (copy.length >= 8) new DataView(copy.buffer).setBigUint64(0, length, true)
    return copy
  })

/** Rewrites the header's text and states its new length, so that the reader gets past the length. */
const rewriteHeader =
  (rewrite: (text: string) => string): Mutation =>
  (file) => {
    if (file.length < 8) return file
    const length = Number(new DataView(file.buffer).getBigUint64(0, true))
    if (length > file.length - 8) return file
    const { text, data } = headerOf(file)
    return fileOf(rewrite(text), data)
  }

const oddNumber = fc.oneof(
  fc.integer({ min: -5, max: 300 }).map(String),
  fc.constantFrom(
    '9007199254740991',
    '9007199254740993',
    '18446744073709551616',
    '1e308',
    '-0',
    '4294967296',
    '0.5',
    '1e2',
  ),
)

const editNumber: fc.Arbitrary<Mutation> = fc.tuple(place, oddNumber).map(([where, number]) =>
  rewriteHeader((text) => {
    const numbers = [...text.matchAll(/(?<=[[,])\d+/g)]
    if (numbers.length === 0) return text
    const { index, 0: old } = numbers[at(where, numbers.length)]
    return text.slice(0, index) + number + text.slice(index + old.length)
  }),
)

const oddText = fc.oneof(
  fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    '"',
    ',',
    ':',
    '\\',
    'null',
    '__metadata__',
    '\ud800',
    '\u0000',
    '\ufeff',
    '"dtype":"F8"',
  ),
  fc.integer({ min: 1, max: 50_000 }).map((depth) => '['.repeat(depth)),
  fc.integer({ min: 1, max: 10_000 }).map((depth) => '{"a":'.repeat(depth)),
  fc.json({ maxDepth: 3 }),
  fc.string({ unit: 'binary', maxLength: 10 }),
)

const spliceText: fc.Arbitrary<Mutation> = fc.tuple(place, fc.nat(10), oddText).map(([where, cut, odd]) =>
  rewriteHeader((text) => {
    const from = at(where, text.length + 1)
    return text.slice(0, from) + odd + text.slice(from + cut)
  }),
)

const repeatText: fc.Arbitrary<Mutation> = fc.tuple(place, place).map(([one, other]) =>
  rewriteHeader((text) => {
    const [from, to] = [at(one, text.length), at(other, text.length)].sort((a, b) => a - b)
    return text.slice(0, to) + text.slice(from)
  }),
)

const mutation = fc.oneof(
  flipBit,
  truncate,
  insert,
  remove,
  setHeaderLength,
  { weight: 3, arbitrary: editNumber },
  { weight: 2, arbitrary: spliceText },
  repeatText,
)

describe('the safetensors reader on untrusted files', () => {
  it('takes every valid file', async () => {
    await fc.assert(
      fc.asyncProperty(validFiles, async (file) => {
        expect(await openAndReadAll(file)).toBe(true)
      }),
      { numRuns: 300 },
    )
  })

  it('on 6000 mutated files opens and reads, or throws a CheckpointError, within the size of the file', async () => {
    let taken = 0
    let refused = 0
    await fc.assert(
      fc.asyncProperty(
        validFiles,
        fc.array(mutation, { minLength: 1, maxLength: 3 }),
        async (file, mutations) => {
          const mutated = mutations.reduce((bytes, mutate) => mutate(bytes), file)
          expect(mutated.length).toBeLessThan(MAX_FILE_BYTES)
          if (await openAndReadAll(mutated)) taken++
          else refused++
        },
      ),
      { numRuns: 6000 },
    )
    // both outcomes must occur, or the mutations prove nothing
    expect(taken).toBeGreaterThan(100)
    expect(refused).toBeGreaterThan(3000)
  })

  it('on 2000 files of arbitrary bytes throws nothing but a CheckpointError', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), fc.boolean(), async (bytes, asHeader) => {
        await openAndReadAll(asHeader ? fileOf(Uint8Array.of(0x7b, ...bytes)) : bytes)
      }),
      { numRuns: 2000 },
    )
  })
})
