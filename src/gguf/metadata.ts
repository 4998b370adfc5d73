import { quoted } from '../checkpoint/safetensors/header-text.js'
import { CheckpointError } from '../common/errors.js'

/** The key-value pairs of a GGUF file, read by kind: a value of another kind is an error that names key and file. */
export interface GgufMetadata {
  /** Path of the file, for errors. */
  readonly where: string
  /** Whether there is such a key. */
  has(key: string): boolean
  /** All keys. */
  keys(): string[]
  /** A number; float32 values as the shortest decimal that rounds to them. */
  number(key: string): number
  optionalNumber(key: string): number | undefined
  text(key: string): string
  optionalText(key: string): string | undefined
  flag(key: string, fallback: boolean): boolean
  texts(key: string): readonly string[]
  optionalTexts(key: string): readonly string[] | undefined
  numbers(key: string): readonly number[]
  optionalNumbers(key: string): readonly number[] | undefined
}

/** Reads values as `@huggingface/gguf` gives them: numbers, bigints, strings, booleans and lists of these. */
export function ggufMetadata(values: Readonly<Record<string, unknown>>, where: string): GgufMetadata {
  const missing = (key: string, kind: string): never => {
    const found = Object.hasOwn(values, key) ? `is ${describe(values[key])}` : 'is missing'
    throw new CheckpointError(
      `${where}: the metadata ${quoted(key)} ${found}, expected ${kind}. The file is damaged or of a converter that leaves it out: convert or fetch the model again`,
    )
  }
  const find = <T>(key: string, kind: string, read: (value: unknown) => T | undefined): T =>
    read(values[key]) ?? missing(key, kind)
  const optional = <T>(key: string, kind: string, read: (value: unknown) => T | undefined): T | undefined =>
    Object.hasOwn(values, key) ? find(key, kind, read) : undefined
  return {
    where,
    has: (key) => Object.hasOwn(values, key),
    keys: () => Object.keys(values),
    number: (key) => find(key, 'a number', asNumber),
    optionalNumber: (key) => optional(key, 'a number', asNumber),
    text: (key) => find(key, 'a string', asText),
    optionalText: (key) => optional(key, 'a string', asText),
    flag: (key, fallback) => optional(key, 'true or false', asFlag) ?? fallback,
    texts: (key) => find(key, 'a list of strings', listOf(asText)),
    optionalTexts: (key) => optional(key, 'a list of strings', listOf(asText)),
    numbers: (key) => find(key, 'a list of numbers', listOf(asNumber)),
    optionalNumbers: (key) => optional(key, 'a list of numbers', listOf(asNumber)),
  }
}

function asNumber(value: unknown): number | undefined {
  if (typeof value === 'bigint') return Number(value)
  return typeof value === 'number' && Number.isFinite(value) ? shortest(value) : undefined
}

function asText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function asFlag(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined
}

function listOf<T>(read: (value: unknown) => T | undefined): (value: unknown) => readonly T[] | undefined {
  return (value) => {
    if (!Array.isArray(value)) return undefined
    const list = value.map(read)
    return list.includes(undefined) ? undefined : (list as T[])
  }
}

/** `1e-5` for the float32 nearest to it: what configurations state was rounded when the file was written. */
function shortest(value: number): number {
  if (Number.isInteger(value) || Math.fround(value) !== value) return value
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits))
    if (Math.fround(short) === value) return short
  }
  return value
}

function describe(value: unknown): string {
  const text = typeof value === 'bigint' ? String(value) : (JSON.stringify(value) ?? String(value))
  return text.length > 60 ? `${text.slice(0, 60)}...` : text
}
