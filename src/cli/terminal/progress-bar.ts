import { safeJson, safeLine } from '../../common/safe-text.js'
import type { OnProgress } from '../../pipeline/progress.js'
import { formatSeconds } from './format.js'

/** Where progress is written: a terminal, a pipe, or what a test hands in. */
export interface ProgressStream {
  write(text: string): unknown
  readonly isTTY?: boolean
  /** Characters per line of a terminal, 0 where it does not tell; read anew for every drawing. */
  readonly columns?: number
}

/** Progress as it is shown to a person. */
export interface ProgressDisplay {
  readonly report: OnProgress
  /** Writes a line of its own; a bar is drawn again below it. */
  note(text: string): void
  /** Clears the bar's line, so that what follows starts clean. */
  close(): void
}

/** Milliseconds between two drawings of a bar, and between two lines in a pipe. */
const drawEvery = 100
const lineEvery = 5000

/** Work that has to be done before the time left can be told. */
const leastShare = 0.02
const leastSeconds = 2

/**
 * Shows progress: a bar with the time left on a terminal, plain lines in a pipe (one per block and one every few
 * seconds).
 *
 * @param env `NO_COLOR` leaves out colour; `TERM=dumb` asks for plain lines
 * @param now milliseconds
 */
export function createProgress(
  stream: ProgressStream,
  env: Readonly<Record<string, string | undefined>>,
  now: () => number,
): ProgressDisplay {
  const secondsLeft = leftEstimator(now)
  const timeLeft = (done: number) => {
    const left = secondsLeft(done)
    return left === undefined ? undefined : formatSeconds(left)
  }
  return stream.isTTY && env.TERM !== 'dumb'
    ? barDisplay(stream, !env.NO_COLOR, now, timeLeft)
    : lineDisplay(stream, now, timeLeft)
}

/** Shows nothing but notes. */
export function quietProgress(stream: ProgressStream): ProgressDisplay {
  return { report: () => {}, note: (text) => stream.write(`${text}\n`), close: () => {} }
}

/** Writes progress and notes as JSON, an object a line, at most ten of a step in a second. */
export function jsonProgress(stream: ProgressStream, now: () => number): ProgressDisplay {
  return progressFields((fields) => stream.write(`${safeJson(JSON.stringify(fields))}\n`), now)
}

/** Hands out progress and notes as the members of an object each, as often as {@link jsonProgress} writes them. */
export function progressFields(write: (fields: object) => void, now: () => number): ProgressDisplay {
  const secondsLeft = leftEstimator(now)
  let last = ''
  let wroteAt = Number.NEGATIVE_INFINITY
  return {
    report({ step, done }) {
      if (step === last && done < 1 && now() - wroteAt < drawEvery) return
      last = step
      wroteAt = now()
      const [, block, blocks, phase] = /^block (\d+) of (\d+)(?:: (.*))?$/.exec(step) ?? []
      const place = block === undefined ? {} : { block: Number(block), blocks: Number(blocks), phase }
      write({ step, ...place, done, secondsLeft: secondsLeft(done) ?? null })
    },
    note: (text) => write({ note: text }),
    close: () => {},
  }
}

/** Whole seconds that are left, by what the work so far took; undefined while that cannot be told. */
function leftEstimator(now: () => number): (done: number) => number | undefined {
  const started = now()
  return (done) => {
    const elapsed = (now() - started) / 1000
    if (done < leastShare || elapsed < leastSeconds || done >= 1) return undefined
    return Math.max(1, Math.round((elapsed * (1 - done)) / done))
  }
}

function barDisplay(
  stream: ProgressStream,
  colour: boolean,
  now: () => number,
  timeLeft: (done: number) => string | undefined,
): ProgressDisplay {
  const clearLine = '\r\x1b[2K'
  let drawn = ''
  let drawnAt = Number.NEGATIVE_INFINITY
  const close = () => {
    if (drawn !== '') stream.write(clearLine)
    drawn = ''
  }
  return {
    report({ step, done }) {
      if (now() - drawnAt < drawEvery && done < 1) return
      drawnAt = now()
      drawn = barLine(step, done, timeLeft(done), stream.columns || 80, colour)
      stream.write(clearLine + drawn)
    },
    note(text) {
      const bar = drawn
      close()
      stream.write(`${text}\n${bar}`)
      drawn = bar
    },
    close,
  }
}

/** At most `columns - 1` characters, so that no terminal wraps it. */
function barLine(
  step: string,
  done: number,
  left: string | undefined,
  columns: number,
  colour: boolean,
): string {
  const width = columns < 60 ? 0 : 20
  const filled = Math.round(width * done)
  const blocks = '█'.repeat(filled)
  const bar = (colour && filled > 0 ? `\x1b[32m${blocks}\x1b[0m` : blocks) + '░'.repeat(width - filled)
  const parts = [percent(done), ...(left === undefined ? [] : [`${left} left`]), safeLine(step)]
  const text = parts.join('  ')
  const room = Math.max(1, columns - 1 - (width > 0 ? width + 1 : 0))
  const fitting = text.length > room ? `${text.slice(0, room - 1)}…` : text
  return width > 0 ? `${bar} ${fitting}` : fitting
}

function lineDisplay(
  stream: ProgressStream,
  now: () => number,
  timeLeft: (done: number) => string | undefined,
): ProgressDisplay {
  let part = ''
  let last = ''
  let wroteAt = Number.NEGATIVE_INFINITY
  return {
    report({ step, done }) {
      const newPart = partOfWork(step)
      if (newPart === part && now() - wroteAt < lineEvery) return
      const said = `${percent(done)} ${step}`
      if (said === last) return
      last = said
      part = newPart
      wroteAt = now()
      const left = timeLeft(done)
      stream.write(`${percent(done)}  ${safeLine(step)}${left === undefined ? '' : `, ${left} left`}\n`)
    },
    note: (text) => stream.write(`${text}\n`),
    close: () => {},
  }
}

/** The block that a step belongs to, or the kind of work by its first word. */
function partOfWork(step: string): string {
  return /^block \d+/.exec(step)?.[0] ?? step.split(' ', 1)[0]
}

function percent(done: number): string {
  return `${Math.floor(100 * done)}%`.padStart(4)
}
