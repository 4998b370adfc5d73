import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  formatArgument,
  formatBytes,
  formatCount,
  formatError,
  formatSeconds,
  formatShare,
} from '../../src/cli/terminal/format.js'
import { formatTable, wrapText } from '../../src/cli/terminal/table.js'

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.00 kB'],
  [61440, '61.4 kB'],
  [999_499, '999 kB'],
  [999_600, '1.00 MB'],
  [8_397_312, '8.40 MB'],
  [5e9, '5.00 GB'],
])('%i bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text)
})

test.each([
  [0, '0.0 s'],
  [9.94, '9.9 s'],
  [9.96, '10 s'],
  [59.6, '1 min 0 s'],
  [200, '3 min 20 s'],
  [3599.7, '1 h 0 min'],
  [7500, '2 h 5 min'],
])('%d seconds are %s', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text)
})

test('what was not measured is a dash, and a zero stays a zero', () => {
  expect([formatError(null), formatError(undefined), formatShare(undefined)]).toEqual(['-', '-', '-'])
  expect([formatError(0), formatError(0.012345), formatShare(0.8764)]).toEqual(['0', '0.0123', '87.6 %'])
})

test('one thing is singular', () => {
  expect([formatCount(1, 'file'), formatCount(0, 'file'), formatCount(3, 'file')]).toEqual([
    '1 file',
    '0 files',
    '3 files',
  ])
})

test('a path with a space is quoted', () => {
  expect([formatArgument('./a/b-2'), formatArgument('my model')]).toEqual(['./a/b-2', '"my model"'])
})

describe('tables', () => {
  test('columns line up left or right, and an empty row is a rule', () => {
    expect(formatTable([['a', 'n'], [], ['long', '10'], ['b']], ['left', 'right'])).toBe(
      ['a      n', '--------', 'long  10', 'b'].join('\n'),
    )
  })

  test('wrapping keeps every word in order and breaks only where it must', () => {
    const words = fc.array(
      fc.string({ minLength: 1 }).map((word) => word.replaceAll(' ', '_')),
      { minLength: 1 },
    )
    fc.assert(
      fc.property(words, fc.integer({ min: 1, max: 30 }), (list, width) => {
        const lines = wrapText(list.join(' '), width)
        expect(lines.join(' ')).toBe(list.join(' '))
        for (const [i, line] of lines.entries()) {
          if (line.includes(' ')) expect(line.length).toBeLessThanOrEqual(width)
          const next = lines[i + 1]?.split(' ')[0]
          if (next !== undefined) expect(line.length + 1 + next.length).toBeGreaterThan(width)
        }
      }),
    )
  })
})
