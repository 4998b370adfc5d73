import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createProgress, quietProgress } from '../../src/cli/terminal/progress-bar.js'

/** A stream and a clock that a test turns by hand. */
function setup(terminal: { isTTY?: boolean; columns?: number } = {}, env: Record<string, string> = {}) {
  const written: string[] = []
  const clock = { ms: 0 }
  const stream = { ...terminal, write: (text: string) => written.push(text) }
  return { written, clock, stream, progress: createProgress(stream, env, () => clock.ms) }
}

const clearLine = '\r\x1b[2K'
// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences start with one
const escapes = /\x1b\[[0-9]*[A-Za-z]/g
const visible = (text: string) => text.replace(escapes, '').replaceAll('\r', '')

describe('in a pipe', () => {
  test('every line is plain: no escape sequence, no carriage return', () => {
    const { written, clock, progress } = setup()
    for (let i = 0; i <= 10; i++) {
      clock.ms += 1000
      progress.report({ step: `block 1 of 2: quantizing part ${i}`, done: i / 10 })
    }
    progress.close()
    const text = written.join('')
    expect(text).toBe(visible(text))
    expect(text.endsWith('\n')).toBe(true)
  })

  test('each block is announced, however fast, and within one at most a line every 5 seconds', () => {
    const { written, clock, progress } = setup()
    for (let block = 1; block <= 3; block++) {
      for (let i = 0; i < 12; i++) {
        progress.report({ step: `block ${block} of 3: part ${i}`, done: (block - 1) / 3 + i / 36 })
        clock.ms += 1000
      }
    }
    const steps = written.map((line) => /block (\d) of 3: part (\d+)/.exec(line)?.slice(1).map(Number))
    expect(steps).toEqual([1, 2, 3].flatMap((block) => [0, 5, 10].map((part) => [block, part])))
  })

  test('steps that name one layer after the other are not a line each', () => {
    const { written, progress } = setup()
    for (let i = 0; i < 100; i++) progress.report({ step: `dequantizing layer ${i}`, done: i / 100 })
    expect(written).toHaveLength(1)
  })

  test('the time left is told from the pace so far, once there is one', () => {
    const { written, clock, progress } = setup()
    progress.report({ step: 'block 1 of 4: a', done: 0 })
    clock.ms = 1000
    progress.report({ step: 'block 2 of 4: a', done: 0.25 })
    clock.ms = 60_000
    progress.report({ step: 'block 3 of 4: a', done: 0.25 })
    clock.ms = 100_000
    progress.report({ step: 'writing out', done: 1 })
    expect(written).toEqual([
      '  0%  block 1 of 4: a\n',
      ' 25%  block 2 of 4: a\n',
      ' 25%  block 3 of 4: a, 3 min 0 s left\n',
      '100%  writing out\n',
    ])
  })

  test('a dumb terminal gets plain lines too', () => {
    const { written, progress } = setup({ isTTY: true, columns: 80 }, { TERM: 'dumb' })
    progress.report({ step: 'evaluating', done: 0.5 })
    expect(written).toEqual([' 50%  evaluating\n'])
  })
})

describe('on a terminal', () => {
  test('one line is drawn over and over, and cleared at the end', () => {
    const { written, clock, progress } = setup({ isTTY: true, columns: 80 })
    for (let i = 0; i <= 4; i++) {
      clock.ms += 200
      progress.report({ step: 'evaluating', done: i / 4 })
    }
    expect(written).toHaveLength(5)
    for (const text of written) {
      expect(text.startsWith(clearLine)).toBe(true)
      expect(text).not.toContain('\n')
    }
    progress.close()
    progress.close()
    expect(written.slice(5)).toEqual([clearLine])
  })

  test('the bar grows with the work done', () => {
    const { written, clock, progress } = setup({ isTTY: true, columns: 80 }, { NO_COLOR: '1' })
    for (const done of [0, 0.5, 1]) {
      clock.ms += 200
      progress.report({ step: 'evaluating', done })
    }
    expect(written.map((text) => [text.split('█').length - 1, text.split('░').length - 1])).toEqual([
      [0, 20],
      [10, 10],
      [20, 0],
    ])
  })

  test('it is drawn at most ten times a second', () => {
    const { written, clock, progress } = setup({ isTTY: true, columns: 80 })
    for (let ms = 0; ms < 1000; ms++) {
      clock.ms = ms
      progress.report({ step: 'evaluating', done: ms / 1000 })
    }
    expect(written).toHaveLength(10)
  })

  test('no line reaches the last column, whatever the width and the step', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.string(),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (columns, step, done) => {
          const { written, clock, progress } = setup({ isTTY: true, columns })
          clock.ms = 5000
          progress.report({ step: step.replace(/[^ -~]/g, '?'), done })
          expect(visible(written[0]).length).toBeLessThanOrEqual(Math.max(1, columns - 1))
        },
      ),
    )
  })

  test('a window made narrower is seen at the next drawing', () => {
    const written: string[] = []
    const clock = { ms: 0 }
    const stream = { isTTY: true, columns: 120, write: (text: string) => written.push(text) }
    const progress = createProgress(stream, {}, () => clock.ms)
    const step = `block 1 of 2: quantizing ${'x'.repeat(200)}`
    progress.report({ step, done: 0.5 })
    stream.columns = 30
    clock.ms = 200
    progress.report({ step, done: 0.5 })
    expect(written.map((text) => visible(text).length)).toEqual([119, 29])
  })

  test('a terminal that does not tell its width counts as 80 columns', () => {
    const drawn = [{ columns: 0 }, {}, { columns: 80 }].map((size) => {
      const { written, progress } = setup({ isTTY: true, ...size })
      progress.report({ step: 'x'.repeat(200), done: 0.5 })
      return written[0]
    })
    expect(drawn[0]).toBe(drawn[2])
    expect(drawn[1]).toBe(drawn[2])
  })

  test('colour is left out when NO_COLOR asks for that', () => {
    const coloured = setup({ isTTY: true, columns: 80 })
    coloured.progress.report({ step: 'evaluating', done: 0.5 })
    expect(coloured.written[0]).toContain('\x1b[32m')
    const plain = setup({ isTTY: true, columns: 80 }, { NO_COLOR: '1' })
    plain.progress.report({ step: 'evaluating', done: 0.5 })
    expect(plain.written[0]).not.toContain('m')
    expect(visible(plain.written[0])).toBe(visible(coloured.written[0]))
  })

  test('a note stands on a line of its own above the bar', () => {
    const { written, progress } = setup({ isTTY: true, columns: 80 })
    progress.report({ step: 'evaluating', done: 0.5 })
    const bar = written[0].slice(clearLine.length)
    progress.note('stopping')
    expect(written.slice(1).join('')).toBe(`${clearLine}stopping\n${bar}`)
  })
})

test('quiet progress writes nothing but notes', () => {
  const written: string[] = []
  const progress = quietProgress({ write: (text: string) => written.push(text) })
  progress.report({ step: 'evaluating', done: 0.5 })
  progress.note('stopping')
  progress.close()
  expect(written).toEqual(['stopping\n'])
})
