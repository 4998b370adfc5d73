import { CheckpointError } from '../../common/errors.js'
import { shortened } from '../../common/safe-text.js'

/** One tensor as the header states it, not yet checked against anything. */
export interface StatedTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  /** First and one past the last byte, counted from the end of the header. */
  readonly start: number
  readonly end: number
}

/** What the JSON of a safetensors header says. */
export interface StatedHeader {
  readonly metadata: ReadonlyMap<string, string>
  readonly tensors: readonly StatedTensor[]
}

/** Most dimensions of a tensor: as many as NumPy and PyTorch allow. */
export const MAX_DIMENSIONS = 64

const LONGEST_NUMBER = 20
const SHOWN_NAME_LENGTH = 200

/** A name from an untrusted file as errors show it: in quotes, cut when very long. */
export function quoted(name: string): string {
  return JSON.stringify(shortened(name, SHOWN_NAME_LENGTH))
}

/**
 * Reads the JSON text of a header: one object of tensor records and an optional `__metadata__`.
 *
 * Why not `JSON.parse`: it hides duplicate names, and on an untrusted header it builds whatever is nested there, many
 * times the size of the text. This reader follows only the shape that the format allows.
 *
 * @param fileName how errors name the file
 * @throws CheckpointError when the text is not JSON of that shape, or a key appears twice
 */
export function readHeaderText(text: string, fileName: string): StatedHeader {
  const cursor: Cursor = { text, at: 0, fileName }
  let metadata: ReadonlyMap<string, string> | undefined
  const tensors: StatedTensor[] = []
  readMembers(cursor, 'the header', (name) => {
    if (name === '__metadata__') metadata = readMetadata(cursor)
    else tensors.push(readRecord(cursor, name))
  })
  skipSpace(cursor)
  if (cursor.at < text.length) throw unexpected(cursor, 'nothing after the closing brace of the header')
  return { metadata: metadata ?? new Map(), tensors }
}

interface Cursor {
  readonly text: string
  at: number
  readonly fileName: string
}

function readMetadata(cursor: Cursor): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>()
  readMembers(cursor, '__metadata__', (key) => {
    metadata.set(key, readString(cursor, `text as the value of ${quoted(key)} in __metadata__`))
  })
  return metadata
}

function readRecord(cursor: Cursor, name: string): StatedTensor {
  const owner = `tensor ${quoted(name)}`
  let dtype: string | undefined
  let shape: number[] | undefined
  let offsets: number[] | undefined
  readMembers(cursor, owner, (field) => {
    if (field === 'dtype') dtype = readString(cursor, `text as the dtype of ${owner}`)
    else if (field === 'shape') shape = readNumbers(cursor, `shape of ${owner}`, MAX_DIMENSIONS)
    else if (field === 'data_offsets') offsets = readNumbers(cursor, `data_offsets of ${owner}`, 2)
    else
      throw damaged(cursor, `${owner} has a field ${quoted(field)}; expected dtype, shape and data_offsets`)
  })
  if (dtype === undefined) throw damaged(cursor, `${owner} has no dtype`)
  if (shape === undefined) throw damaged(cursor, `${owner} has no shape`)
  if (offsets?.length !== 2) throw damaged(cursor, `${owner} has no pair of data_offsets [start, end]`)
  return { name, dtype, shape, start: offsets[0], end: offsets[1] }
}

/** Reads an object; `readValue` is called with each key, the cursor before its value. */
function readMembers(cursor: Cursor, owner: string, readValue: (key: string) => void): void {
  take(cursor, '{', `an object for ${owner}`)
  const seen = new Set<string>()
  if (takeIf(cursor, '}')) return
  do {
    const key = readString(cursor, `a name in ${owner}`)
    if (seen.has(key)) throw damaged(cursor, `the name ${quoted(key)} appears twice in ${owner}`)
    seen.add(key)
    take(cursor, ':', `a colon after ${quoted(key)}`)
    readValue(key)
  } while (takeIf(cursor, ','))
  take(cursor, '}', `a comma or the closing brace of ${owner}`)
}

function readNumbers(cursor: Cursor, owner: string, most: number): number[] {
  take(cursor, '[', `a list for the ${owner}`)
  const numbers: number[] = []
  if (takeIf(cursor, ']')) return numbers
  do {
    if (numbers.length === most) throw damaged(cursor, `the ${owner} lists more than ${most} numbers`)
    numbers.push(readWholeNumber(cursor, owner))
  } while (takeIf(cursor, ','))
  take(cursor, ']', `a comma or the closing bracket of the ${owner}`)
  return numbers
}

function readWholeNumber(cursor: Cursor, owner: string): number {
  skipSpace(cursor)
  const start = cursor.at
  while (cursor.at - start <= LONGEST_NUMBER && /[-+.\deE]/.test(cursor.text.charAt(cursor.at))) cursor.at++
  const digits = cursor.text.slice(start, cursor.at)
  if (digits === '') throw unexpected(cursor, `a number in the ${owner}`)
  if (!/^(0|[1-9]\d*)$/.test(digits) || !Number.isSafeInteger(Number(digits))) {
    throw damaged(cursor, `the ${owner} holds ${digits}; expected whole numbers from 0 to 2^53 - 1`)
  }
  return Number(digits)
}

function readString(cursor: Cursor, expected: string): string {
  skipSpace(cursor)
  const { text, at: start } = cursor
  if (text[start] !== '"') throw unexpected(cursor, expected)
  let end = start + 1
  let plain = true
  for (let code = text.charCodeAt(end); end < text.length && code !== QUOTE; code = text.charCodeAt(end)) {
    if (code === BACKSLASH || code < SPACE) plain = false
    end += code === BACKSLASH ? 2 : 1
  }
  if (end >= text.length)
    throw damaged(cursor, `the text that begins at character ${start} has no closing quote`)
  cursor.at = end + 1
  const value = plain ? text.slice(start + 1, end) : parseString(text.slice(start, end + 1))
  if (value === undefined) {
    throw damaged(cursor, `the text that begins at character ${start} is not valid JSON text`)
  }
  return value
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const SPACE = 0x20

/** `undefined` when `json` has a forbidden control character or escape, or half a surrogate pair (no UTF-8 has it). */
function parseString(json: string): string | undefined {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'string' && isWellFormed(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** Whether `text` can be written as UTF-8: every surrogate has its partner. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text)
}

function skipSpace(cursor: Cursor): void {
  while (cursor.at < cursor.text.length && ' \n\r\t'.includes(cursor.text[cursor.at])) cursor.at++
}

function take(cursor: Cursor, character: string, expected: string): void {
  if (!takeIf(cursor, character)) throw unexpected(cursor, expected)
}

function takeIf(cursor: Cursor, character: string): boolean {
  skipSpace(cursor)
  if (cursor.text[cursor.at] !== character) return false
  cursor.at++
  return true
}

function unexpected(cursor: Cursor, expected: string): CheckpointError {
  const { text, at } = cursor
  const found = at < text.length ? `${quoted(text.slice(at, at + 12))} at character ${at}` : 'its end'
  return damaged(cursor, `found ${found}, expected ${expected}`)
}

function damaged(cursor: Cursor, problem: string): CheckpointError {
  return new CheckpointError(
    `${cursor.fileName}: the safetensors header is not valid: ${problem}. The file is damaged or was written wrongly: fetch or write it again`,
  )
}
