import { OptionError } from './errors.js'
import { suggestion } from './nearest-name.js'

/** Names of options, as keys: so that the compiler sees that none of a type is missing. */
export type OptionNames<T> = Readonly<Record<keyof T & string, true>>

/** Refuses an option that there is not, for callers whom no compiler tells. */
export function refuseUnknown(options: object, known: Readonly<Record<string, true>>): void {
  for (const option of Object.keys(options)) {
    if (Object.hasOwn(known, option)) continue
    throw new OptionError(option, `there is no such option${suggestion(option, Object.keys(known))}`)
  }
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
    throw new OptionError(option, `expected a whole number ${range}, got ${value}`)
  }
}

/** Checks that a value is one of a few. */
export function requireOneOf<T>(option: string, value: T, choices: readonly T[]): void {
  if (!choices.includes(value)) {
    throw new OptionError(option, `expected one of ${choices.join(', ')}, got ${value}`)
  }
}

/** Damping must be a finite number, not negative. */
export function requireDamping(damping: number): void {
  if (!Number.isFinite(damping) || damping < 0) {
    throw new OptionError('damping', `expected a number not below 0, e.g. 0.01, got ${damping}`)
  }
}

/** Checks a number from 0 to 1. */
export function requireShare(option: string, value: number): void {
  if (!(value >= 0 && value <= 1))
    throw new OptionError(option, `expected a number from 0 to 1, got ${value}`)
}

/** Checks a number above 0. */
export function requirePositive(option: string, value: number): void {
  if (!(value > 0)) throw new OptionError(option, `expected a number above 0, got ${value}`)
}
