import { CheckpointError, UnsupportedError } from '../../common/errors.js'

/** One object of a tokenizer.json, read field by field; an error names the file, the field, what was found and expected. */
export interface Section {
  /** A string. Without a fallback the field has to be there; null counts as not there. */
  string(name: string, fallback?: string): string
  /** A string, or undefined where there is none. */
  optional(name: string): string | undefined
  flag(name: string, fallback?: boolean): boolean
  /** A whole number, 0 or more. */
  count(name: string, fallback?: number): number
  /** A string of exactly one character. */
  character(name: string, fallback?: string): string
  /** An object within; undefined for null or where there is none. */
  part(name: string): Section | undefined
  /** A list of objects; empty where there is none. */
  parts(name: string): Section[]
  /** What a string stands for. @throws UnsupportedError for one that stands for nothing here */
  choice<T>(name: string, choices: Readonly<Record<string, T>>): T
  /** Anything, unchecked. */
  raw(name: string): unknown
  /** Whether the field is there and not null. */
  has(name: string): boolean
  /** The file contradicts its format. @throws CheckpointError */
  fail(name: string, expected: string): never
  /** The file is of a kind that is not there. @throws UnsupportedError */
  refuse(name: string, supported: string): never
}

/**
 * @param value what the JSON has there
 * @param file how errors name the file
 * @param path the way from the top of the file, e.g. `pre_tokenizer.pretokenizers[0]`; empty for the top
 */
export function readSection(value: unknown, file: string, path = ''): Section {
  const at = (name: string) => (path === '' ? name : `${path}.${name}`)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CheckpointError(`${file}: ${path} is ${show(value)}; expected an object; the file is damaged`)
  }
  const fields = value as Record<string, unknown>
  const raw = (name: string) => (Object.hasOwn(fields, name) ? fields[name] : undefined)
  const fail = (name: string, expected: string): never => {
    throw new CheckpointError(
      `${file}: ${at(name)} is ${show(raw(name))}; expected ${expected}; the file is damaged`,
    )
  }
  const string = (name: string, fallback?: string) => {
    const found = raw(name) ?? fallback
    return typeof found === 'string' ? found : fail(name, 'a string')
  }
  const refuse = (name: string, supported: string): never => {
    throw new UnsupportedError(
      `${file}: ${at(name)} ${show(raw(name))} is not supported; supported: ${supported}`,
    )
  }
  const has = (name: string) => raw(name) !== undefined && raw(name) !== null
  return {
    string,
    optional: (name) => (has(name) ? string(name) : undefined),
    flag: (name, fallback) => {
      const found = raw(name) ?? fallback
      return typeof found === 'boolean' ? found : fail(name, 'true or false')
    },
    count: (name, fallback) => {
      const found = raw(name) ?? fallback
      return isCount(found) ? found : fail(name, 'a whole number')
    },
    character: (name, fallback) => {
      const found = string(name, fallback)
      return Array.from(found).length === 1 ? found : fail(name, 'one character')
    },
    part: (name) => (has(name) ? readSection(raw(name), file, at(name)) : undefined),
    parts: (name) => {
      const found = raw(name) ?? []
      const list: unknown[] = Array.isArray(found) ? found : fail(name, 'a list')
      return list.map((each, index) => readSection(each, file, at(`${name}[${index}]`)))
    },
    choice: (name, choices) => {
      const found = string(name)
      return Object.hasOwn(choices, found) ? choices[found] : refuse(name, Object.keys(choices).join(', '))
    },
    raw,
    has,
    fail,
    refuse,
  }
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function show(value: unknown): string {
  if (value === undefined) return 'missing'
  const text = JSON.stringify(value)
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`
}
