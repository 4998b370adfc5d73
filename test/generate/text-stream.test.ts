import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { createStopWatch } from '../../src/generate/stop-strings.js'
import { createTextStream } from '../../src/generate/text-stream.js'
import type { Tokenizer } from '../../src/model/tokenizer.js'
import { loadTokenizer } from '../../src/model/tokenizer.js'
import { folderOfFile } from '../cli/support.js'
import { loadDefinition } from '../model/tokenizers/load-definition.js'
import { writeTinyModel } from '../support/tiny-model.js'

/** A character whole, or any text. */
const texts = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 20 }),
  fc
    .array(fc.constantFrom('a', ' ', 'é', '€', '😀', '👩‍🚀', '\n', '漢', 'x y'), { maxLength: 12 })
    .map((all) => all.join('')),
)

function partsOf(tokenizer: Tokenizer, ids: readonly number[], before: readonly number[] = []): string[] {
  const stream = createTextStream(tokenizer, before)
  return [...ids.map((id) => stream.push(id)), stream.end()]
}

const isWhole = (text: string) => !/[\ud800-\udbff]$|^[\udc00-\udfff]/.test(text)

describe('a text stream over a token for each byte', () => {
  let tokenizer: Tokenizer
  beforeAll(async () => {
    const { folder } = await writeTinyModel(await folderOfFile())
    tokenizer = await loadTokenizer(folder)
  })

  it('gives whole characters, each with its last byte, and all of the text', () => {
    fc.assert(
      fc.property(texts, texts, (before, text) => {
        const ids = [...tokenizer.encode(text)]
        const parts = partsOf(tokenizer, ids, [...tokenizer.encode(before)])
        expect(parts.join('')).toBe(text)
        const ends: string[] = ids.map(() => '')
        let at = -1
        for (const character of text) {
          at += Buffer.from(character).length
          ends[at] = character
        }
        expect(parts).toEqual([...ends, ''])
      }),
    )
  })

  it('gives what never becomes a character at the end, and lets it hold up text for some tokens at most', () => {
    expect(partsOf(tokenizer, [97, 0xe2, 0x82])).toEqual(['a', '', '', '\ufffd'])
    expect(partsOf(tokenizer, [0xff, 97])).toEqual(['', '\ufffda', ''])
    const run = Array.from({ length: 40 }, () => 0xff)
    const parts = partsOf(tokenizer, run)
    expect(parts.join('')).toBe('\ufffd'.repeat(40))
    expect(parts.slice(10, -1).every((part) => part === '\ufffd')).toBe(true)
    expect(partsOf(tokenizer, [...run, ...Buffer.from('€')]).join('')).toBe(`${'\ufffd'.repeat(40)}€`)
  })

  it('leaves special tokens out, also between the bytes of a character', () => {
    expect(partsOf(tokenizer, [256, 97, 257, 0xe2, 256, 0x82, 0xac]).join('')).toBe('a€')
  })
})

interface Grid {
  readonly texts: readonly string[]
  readonly models: Record<string, object>
  readonly cases: readonly {
    name: string
    model: string
    ids?: readonly (string | null)[]
    decoded?: unknown
  }[]
}

describe('a text stream over tokenizers of all kinds', () => {
  const path = new URL('../model/tokenizers/grid.json', import.meta.url)
  const grid: Grid = JSON.parse(readFileSync(path, 'utf8'))
  // what these decoders make of a token depends on those behind it
  const decoding = grid.cases.filter(
    ({ name, decoded }) => decoded !== undefined && !/CTC|with other ids|with a gap/.test(name),
  )

  it('covers several decoders', () => {
    expect(decoding.length).toBeGreaterThan(10)
  })

  it.each(decoding)('$name: the parts make what all tokens are decoded to at once', async (given) => {
    const { ids = [], decoded: _, ...definition } = given
    const tokenizer = await loadDefinition({ ...definition, model: grid.models[given.model] })
    for (const list of ids) {
      const own = (list ?? '')
        .split(' ')
        .filter((id) => id !== '')
        .map(Number)
      const plain = own.filter((id) => !tokenizer.specialIds.has(id))
      const parts = partsOf(tokenizer, plain)
      expect(parts.join('')).toBe(tokenizer.decode(Int32Array.from(plain)))
      for (const part of parts) expect(isWhole(part)).toBe(true)
    }
  })
})

describe('a watch for stop strings', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 14 })
  const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 3,
  })

  it('gives all text in front of the first stop string that is complete, however the text is cut', () => {
    fc.assert(
      fc.property(fc.array(letters, { maxLength: 5 }), stops, (parts, list) => {
        const watch = createStopWatch(list)
        let given = ''
        let stopped = false
        for (const part of parts) {
          const check = watch.push(part)
          given += check.text
          stopped = check.stopped
          if (stopped) break
        }
        const whole = parts.join('')
        if (!stopped) given += watch.end()
        const places = list.map((stop) => whole.indexOf(stop)).filter((at) => at >= 0)
        expect(stopped).toBe(places.length > 0)
        if (stopped) {
          // the text up to where it was complete, cut at the first that is in it
          expect(whole.startsWith(given)).toBe(true)
          expect(list.some((stop) => whole.startsWith(given + stop))).toBe(true)
          expect(list.every((stop) => !given.includes(stop))).toBe(true)
        } else expect(given).toBe(whole)
      }),
      { numRuns: 1000 },
    )
  })

  it('holds back no more than what may begin one', () => {
    const watch = createStopWatch(['END', '\n\n'])
    expect(watch.push('the E')).toEqual({ text: 'the ', stopped: false })
    expect(watch.push('Nds\n')).toEqual({ text: 'ENds', stopped: false })
    expect(watch.push('x EN')).toEqual({ text: '\nx ', stopped: false })
    expect(watch.push('D and on')).toEqual({ text: '', stopped: true })
    expect(createStopWatch([]).push('all of it')).toEqual({ text: 'all of it', stopped: false })
  })
})
