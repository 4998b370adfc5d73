import { OptionError } from './errors.js'
import { suggestion } from './nearest-name.js'
import { shortened } from './safe-text.js'

/** Names of options, as keys: so that the compiler sees that none of a type is missing. */
export type OptionNames<T> = Readonly<Record<keyof T & string, true>>

/** Refuses what is no object of options, and an option that there is not, for callers whom no compiler tells. */
export function refuseUnknown(options: object, known: Readonly<Record<string, true>>): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new OptionError('options', `expected an object, e.g. { bits: 2 }, got ${shownValue(options)}`)
  }
  for (const option of Object.keys(options)) {
    if (Object.hasOwn(known, option)) continue
    throw new OptionError(option, `there is no such option${suggestion(option, Object.keys(known))}`)
  }
}

/** Checks the path of a file or folder. */
export function requirePath(option: string, value: string): void {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return
  throw new OptionError(option, `expected a path, got ${shownValue(value)}`)
}

/** A value as an error names it: its kind and size, never all of it. */
export function shownValue(value: unknown): string {
  if (value === null || value === undefined || typeof value === 'boolean') return String(value)
  if (typeof value === 'string')
    return /^\S+$/.test(value) ? shortened(value, 100) : JSON.stringify(shortened(value, 100))
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (typeof value !== 'object') return `a ${typeof value}`
  const kind = value.constructor?.name || 'object'
  const length = (value as { readonly length?: unknown }).length
  return `${/^[AEIOU]/i.test(kind) ? 'an' : 'a'} ${kind}${typeof length === 'number' ? ` of ${length}` : ''}`
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

/** Damping must be a finite number, not negative. */
export function requireDamping(damping: number): void {
  if (!Number.isFinite(damping) || damping < 0) {
    throw new OptionError('damping', `expected a number not below 0, e.g. 0.01, got ${shownValue(damping)}`)
  }
}

/** Checks a number from 0 to 1. */
export function requireShare(option: string, value: number): void {
  if (!(value >= 0 && value <= 1))
    throw new OptionError(option, `expected a number from 0 to 1, got ${shownValue(value)}`)
}

/** Checks a number above 0. */
export function requirePositive(option: string, value: number): void {
  if (!(value > 0)) throw new OptionError(option, `expected a number above 0, got ${shownValue(value)}`)
}
