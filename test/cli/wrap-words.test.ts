import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { wrapWords } from '../../src/cli/terminal/wrap-words.js'

/** What reaches a terminal of so many columns, write by write. */
function writesOf(parts: readonly string[], columns: number | undefined): string[] {
  const writes: string[] = []
  const wrapped = wrapWords(
    (text) => writes.push(text),
    () => columns,
  )
  for (const part of parts) wrapped.add(part)
  wrapped.end()
  return writes
}

const wrap = (text: string, columns: number) => writesOf([text], columns).join('')

const words = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'é'), minLength: 1, maxLength: 9 }), {
  minLength: 1,
  maxLength: 40,
})

describe('words of an answer in a terminal', () => {
  it('fill lines of less than its columns, as many as fit, and none is broken', () => {
    fc.assert(
      fc.property(words, fc.integer({ min: 11, max: 40 }), (all, columns) => {
        const lines = wrap(all.join(' '), columns).split('\n')
        expect(lines.join(' ')).toBe(all.join(' '))
        for (const [i, line] of lines.entries()) {
          expect(line.length).toBeLessThan(columns)
          const [next] = lines[i + 1]?.split(' ') ?? []
          if (next !== undefined) expect(line.length + 1 + next.length).toBeGreaterThanOrEqual(columns)
        }
      }),
    )
  })

  it('come out the same however the text is cut', () => {
    fc.assert(
      fc.property(words, fc.infiniteStream(fc.integer({ min: 1, max: 6 })), (all, sizes) => {
        const text = all.join(' ')
        const parts: string[] = []
        for (let at = 0; at < text.length; ) {
          const size = sizes.next().value
          parts.push(text.slice(at, at + size))
          at += size
        }
        expect(writesOf(parts, 20).join('')).toBe(wrap(text, 20))
      }),
    )
  })

  it('are written when they end, and a long one when it fills a line', () => {
    expect(writesOf(['Wel', 'l, n', 'o'], 80)).toEqual(['Well,', ' no'])
    expect(writesOf(['a'.repeat(6), 'a'.repeat(6), 'a'], 10)).toEqual(['a'.repeat(10), 'aaa'])
  })

  it('keep what lines begin with, and lose spaces at a break', () => {
    expect(wrap('if x:\n    y = 1\n\n  z ', 20)).toBe('if x:\n    y = 1\n\n  z ')
    expect(wrap('one two   three', 9)).toBe('one two\nthree')
  })

  it('of characters two columns wide are parted anywhere', () => {
    expect(wrap('漢字漢字漢字', 9)).toBe('漢字漢字\n漢字')
    expect(writesOf(['漢', '字'], 80)).toEqual(['漢', '字'])
  })

  it('stay on one line where columns are not told', () => {
    const text = 'word '.repeat(40)
    expect(writesOf([text], undefined).join('')).toBe(text)
  })
})
