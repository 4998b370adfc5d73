import { OptionError, ShapeError } from './errors.js'
import { suggestion } from './nearest-name.js'
import { shownValue } from './shown-value.js'

/** Names of options, as keys: so that the compiler sees that none of a type is missing, and which are true or false. */
export type OptionNames<T> = {
  readonly [K in keyof T & string]-?: NonNullable<T[K]> extends boolean ? 'switch' : true
}

/**
 * Refuses what is no object of options, an option that there is not, and a switch that is neither true nor false, for
 * callers whom no compiler tells: `force: 'no'` would replace what it is to keep.
 */
export function refuseUnknown(options: object, known: Readonly<Record<string, true | 'switch'>>): void {
  requireObject('options', options)
  const { signal, ...others } = options as { readonly signal?: unknown }
  if (signal !== undefined && typeof (signal as Partial<AbortSignal> | null)?.aborted !== 'boolean') {
    throw new OptionError('signal', `expected an AbortSignal, got ${shownValue(signal)}`)
  }
  for (const [option, value] of Object.entries(others)) {
    if (/^on[A-Z]/.test(option) && value !== undefined && typeof value !== 'function')
      throw new OptionError(option, `expected a function, got ${shownValue(value)}`)
  }
  for (const [option, value] of Object.entries(options)) {
    if (!Object.hasOwn(known, option))
      throw new OptionError(option, `there is no such option${suggestion(option, Object.keys(known))}`)
    if (known[option] === 'switch' && value !== undefined && typeof value !== 'boolean')
      throw new OptionError(option, `expected true or false, got ${shownValue(value)}`)
  }
}

/** Checks that a value is an object with fields. */
export function requireObject(option: string, value: object): void {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value))
    return
  throw new OptionError(option, `expected an object, got ${shownValue(value)}`)
}

/** Checks that a value is a list of objects. */
export function requireList(option: string, value: readonly unknown[]): void {
  if (!Array.isArray(value)) throw new OptionError(option, `expected a list, got ${shownValue(value)}`)
  for (const one of value) requireObject(option, one)
}

/**
 * Checks that a value is an object with these fields, e.g. a layer, for callers whom no compiler tells.
 *
 * @param what it should be, e.g. `'a layer that quantizeLayer gave'`
 * @throws ShapeError saying what was given
 */
export function requireFields(value: object, what: string, fields: readonly string[]): void {
  const given = typeof value === 'object' && value !== null
  const isThere = (field: string) =>
    typeof (value as Fields)[field] === 'object' && (value as Fields)[field] !== null
  const missing = given ? fields.find((field) => !isThere(field)) : undefined
  if (given && missing === undefined) return
  const lacking = missing === undefined ? '' : `, without ${missing}`
  throw new ShapeError(`expected ${what}, got ${shownValue(value)}${lacking}`)
}

type Fields = Readonly<Record<string, unknown>>

/** Checks the path of a file or folder. */
export function requirePath(option: string, value: string): void {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return
  throw new OptionError(option, `expected a path, got ${shownValue(value)}`)
}

/** Patterns over names as a list. @throws OptionError for anything but a string or strings */
export function requirePatterns(option: string, value: string | readonly string[]): readonly string[] {
  const patterns = typeof value === 'string' ? [value] : value
  if (Array.isArray(patterns) && patterns.every((pattern) => typeof pattern === 'string')) return patterns
  throw new OptionError(option, `expected a pattern or a list of patterns, got ${shownValue(value)}`)
}

/** Checks a whole number from `least` to `most`. */
export function requireWhole(
  option: string,
  value: number,
  least: number,
  most = Number.MAX_SAFE_INTEGER,
): void {
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`
    throw new OptionError(option, `expected a whole number ${range}, got ${shownValue(value)}`)
  }
}

/** Checks that a value is one of a few. */
export function requireOneOf<T>(option: string, value: T, choices: readonly T[]): void {
  if (!choices.includes(value)) {
    throw new OptionError(option, `expected one of ${choices.join(', ')}, got ${shownValue(value)}`)
  }
}

/** A larger share of the diagonal leaves nothing of the Hessian. */
const MOST_DAMPING = 1e6

/** Damping must be a number from 0 to a million. */
export function requireDamping(damping: number): void {
  if (!isWithin(damping, 0, MOST_DAMPING)) {
    throw new OptionError(
      'damping',
      `expected a number from 0 to ${MOST_DAMPING}, e.g. 0.01, got ${shownValue(damping)}`,
    )
  }
}

/** Checks a number from 0 to 1. */
export function requireShare(option: string, value: number): void {
  if (!isWithin(value, 0, 1))
    throw new OptionError(option, `expected a number from 0 to 1, got ${shownValue(value)}`)
}

/** Checks a finite number above 0. */
export function requirePositive(option: string, value: number): void {
  if (Number.isFinite(value) && value > 0) return
  throw new OptionError(option, `expected a finite number above 0, got ${shownValue(value)}`)
}

/** Checks that a value is a number and finite; text that reads as one would pass comparisons. */
export function requireNumber(option: string, value: number): void {
  if (Number.isFinite(value)) return
  throw new OptionError(option, `expected a finite number, got ${shownValue(value)}`)
}

/** Whether a value is a number in a range, its ends included. */
export function isWithin(value: number, least: number, most: number): boolean {
  return typeof value === 'number' && value >= least && value <= most
}
