import { CheckpointError } from '../common/errors.js'
import { shortened } from '../common/safe-text.js'
import { fileIn, type ModelSource, readSmallFile } from './model-source.js'

/** Deepest nesting of lists and objects; the files of a model have fewer than ten. */
const MAX_DEPTH = 100

/**
 * Reads a JSON file of a model that holds one object.
 *
 * @throws CheckpointError when the file is missing, over 100 MB, no valid JSON or not an object
 */
export async function readJsonObject(source: ModelSource, name: string): Promise<Record<string, unknown>> {
  return (await readJsonText(source, name)).value
}

/** The same, with the text it came from. */
export async function readJsonText(
  source: ModelSource,
  name: string,
): Promise<{ readonly value: Record<string, unknown>; readonly text: string }> {
  const path = fileIn(source, name)
  const { value, text } = parseJson(await readSmallFile(source, name), path)
  if (isObject(value)) return { value, text }
  throw new CheckpointError(`${path}: holds ${kindOf(value)}, expected a JSON object. ${REPLACE}`)
}

/** Whether a JSON value is an object, not a list or null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value of a file as an error shows it: its JSON, cut when long. */
export function shownJson(value: unknown): string {
  if (typeof value === 'number') return String(value)
  return shortened(JSON.stringify(value) ?? 'missing', 200)
}

const REPLACE = 'Replace it by the file of the original model'

function parseJson(bytes: Uint8Array, path: string): { value: unknown; text: string } {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    requireShallow(text, path)
    const value: unknown = JSON.parse(text)
    requireFinite(value, path)
    return { value, text }
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CheckpointError(`${path}: is not valid JSON: ${reason}. ${REPLACE}`, { cause })
  }
}

/**
 * Refuses text nested deeper than any file of a model: whatever walks its values would run out of stack.
 *
 * @throws CheckpointError
 */
export function requireShallow(text: string, path: string): void {
  let depth = 0
  let inText = false
  for (let at = 0; at < text.length; at++) {
    const character = text[at]
    if (inText && character === '\\') at++
    else if (character === '"') inText = !inText
    else if (inText) continue
    else if (character === '{' || character === '[') depth++
    else if (character === '}' || character === ']') depth--
    if (depth > MAX_DEPTH) {
      throw new CheckpointError(
        `${path}: values are nested more than ${MAX_DEPTH} deep; the file is damaged. ${REPLACE}`,
      )
    }
  }
}

/** Refuses numbers that overflow, e.g. 1e999. */
function requireFinite(value: unknown, path: string): void {
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new CheckpointError(`${path}: holds a number beyond the range of float64. ${REPLACE}`)
  }
  if (typeof value === 'object' && value !== null)
    for (const member of Object.values(value)) requireFinite(member, path)
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`
}
