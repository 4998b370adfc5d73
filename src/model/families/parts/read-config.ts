import { CheckpointError, UnsupportedError } from '../../../common/errors.js'
import type { Activation } from '../../decoder/description.js'

/**
 * Reads fields of a `config.json` by name, checks them and remembers which were read: those that a family did not read
 * and that would change the result are refused. Errors name the file, the field, what was found and what was expected.
 */
export interface ConfigReader {
  /** `model_type`. */
  readonly family: string
  /** How errors name the file. */
  readonly where: string
  /** Names of the fields read so far. */
  readonly read: ReadonlySet<string>
  /** The field as it is; undefined: there is none. */
  value(name: string): unknown
  /** A positive whole number. A missing field and null get the fallback. */
  count(name: string, fallback?: number): number
  /** A positive whole number. Only a missing field gets the fallback; null means none. */
  optionalCount(name: string, fallback: number | undefined): number | undefined
  /** A positive number. A missing field and null get the fallback. */
  positive(name: string, fallback?: number): number
  /** A positive number. Only a missing field gets the fallback; null means none. */
  optionalPositive(name: string, fallback: number | undefined): number | undefined
  flag(name: string, fallback: boolean): boolean
  /** The values of a list of `length` entries or more that are all in `choices`; undefined: none, or null. */
  list<T>(name: string, length: number, choices: readonly T[]): readonly T[] | undefined
  /** Whole numbers from 0; a missing field and null are an empty list. */
  indices(name: string): readonly number[]
  /** One token id or several; only a missing field gets the fallback. */
  tokenIds(name: string, fallback: readonly number[]): readonly number[]
  activation(name: string, fallback: string): Activation
  /** An object; undefined: none, null or an empty one. */
  section(name: string): Record<string, unknown> | undefined
  /** Refuses the field unless it is missing, null or one of `values`. */
  only(name: string, values: readonly unknown[]): void
  /** @throws CheckpointError */
  fail(name: string, found: unknown, expected: string): never
  /** @throws UnsupportedError */
  refuse(name: string, found: unknown, supported: string): never
  /** Something that a user may want to know of the file, though it can be read. */
  note(text: string): void
}

/** Names of activation functions in Hugging Face files. Those of the last group are one function, written differently. */
const activations: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  relu: 'relu',
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_pytorch_tanh: 'gelu-tanh',
  gelu_python_tanh: 'gelu-tanh',
  gelu_new: 'gelu-tanh',
  gelu_fast: 'gelu-tanh',
  gelu_accurate: 'gelu-tanh',
}

/** @param notes gets what {@link ConfigReader.note} is told */
export function configReader(
  config: Record<string, unknown>,
  family: string,
  where: string,
  notes: string[],
): ConfigReader {
  const read = new Set<string>()
  const value = (name: string) => {
    read.add(name)
    return config[name]
  }
  const fail = (name: string, found: unknown, expected: string): never => {
    throw new CheckpointError(`${where}: ${name} is ${show(found)}; expected ${expected}`)
  }
  const refuse = (name: string, found: unknown, supported: string): never => {
    throw new UnsupportedError(
      `${where}: ${name} ${show(found)} is not supported for ${family}; supported: ${supported}`,
    )
  }
  const count = (name: string, found: unknown) =>
    isWhole(found) && found > 0 ? found : fail(name, found, 'a positive whole number')
  const positive = (name: string, found: unknown) =>
    isPositive(found) ? found : fail(name, found, positiveNumber)
  const optional = <T>(check: (name: string, found: unknown) => T, name: string, fallback: T | undefined) => {
    const found = value(name)
    if (found === undefined) return fallback
    return found === null ? undefined : check(name, found)
  }
  return {
    family,
    where,
    read,
    value,
    fail,
    refuse,
    count: (name, fallback) => count(name, value(name) ?? fallback),
    positive: (name, fallback) => positive(name, value(name) ?? fallback),
    optionalCount: (name, fallback) => optional(count, name, fallback),
    optionalPositive: (name, fallback) => optional(positive, name, fallback),
    flag: (name, fallback) => {
      const found = value(name) ?? fallback
      return typeof found === 'boolean' ? found : fail(name, found, 'true or false')
    },
    list: (name, length, choices) => {
      const found = value(name) ?? undefined
      if (found === undefined) return undefined
      if (!Array.isArray(found) || found.length < length) {
        return fail(name, found, `a list of ${length} entries, one for each layer`)
      }
      return found.slice(0, length).map((entry, index) => {
        const choice = choices.find((known) => known === entry)
        return choice ?? refuse(`${name}[${index}]`, entry, choices.map(show).join(', '))
      })
    },
    indices: (name) => {
      const found: unknown = value(name) ?? []
      const whole = Array.isArray(found) && found.every(isWhole)
      return whole ? found : fail(name, found, 'a list of whole numbers')
    },
    tokenIds: (name, fallback) => {
      const found = value(name)
      if (found === undefined) return fallback
      const ids: unknown[] = Array.isArray(found) ? found : found === null ? [] : [found]
      return ids.every(isWhole) ? ids : fail(name, found, 'a token id, a list of them, or null')
    },
    activation: (name, fallback) => {
      const found = value(name) ?? fallback
      const known = typeof found === 'string' && Object.hasOwn(activations, found)
      return known ? activations[found] : refuse(name, found, Object.keys(activations).join(', '))
    },
    section: (name) => {
      const found = value(name) ?? {}
      if (typeof found !== 'object' || Array.isArray(found)) return fail(name, found, 'an object or null')
      return Object.keys(found).length > 0 ? (found as Record<string, unknown>) : undefined
    },
    only: (name, values) => {
      const found = value(name) ?? undefined
      if (found !== undefined && !values.includes(found)) refuse(name, found, values.map(show).join(', '))
    },
    note: (text) => {
      notes.push(`${where}: ${text}`)
    },
  }
}

/** Whether a JSON value is a whole number from 0. */
export function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** Whether a JSON value is a number that is not infinite. */
export function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

/** Whether a JSON value is a positive number that float32 holds, and its reciprocal: what models compute with. */
export function isPositive(value: unknown): value is number {
  return isNumber(value) && value >= 1e-38 && value <= 1e38
}

/** What errors expect in place of one that {@link isPositive} refuses. */
export const positiveNumber = 'a positive number, 1e-38 to 1e38'

/** A JSON value as errors show it. */
export function show(value: unknown): string {
  if (value === undefined) return 'missing'
  // what is too large for a number is read as infinity, which JSON has no word for
  return typeof value === 'number' ? String(value) : JSON.stringify(value)
}
