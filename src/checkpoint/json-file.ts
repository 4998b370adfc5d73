import { CheckpointError } from '../errors.js'
import { createFilePool } from './byte-source.js'

/** Largest JSON file that is read whole: config and index files have at most a few megabytes. */
const MAX_JSON_BYTES = 100_000_000

/**
 * Reads a JSON file that holds one object.
 *
 * @throws CheckpointError when the file is missing, over 100 MB, no valid JSON or not an object
 */
export async function readJsonObject(path: string): Promise<Record<string, unknown>> {
  return (await readJsonText(path)).value
}

/** The same, with the text it came from. */
export async function readJsonText(
  path: string,
): Promise<{ readonly value: Record<string, unknown>; readonly text: string }> {
  const { value, text } = parseJson(await readSmallFile(path), path)
  if (isObject(value)) return { value, text }
  throw new CheckpointError(`${path}: holds ${kindOf(value)}, expected a JSON object. ${REPLACE}`)
}

/** Whether a JSON value is an object, not a list or null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const REPLACE = 'Replace it by the file of the original model'

async function readSmallFile(path: string): Promise<Uint8Array> {
  const pool = createFilePool(1)
  try {
    const file = await pool.open(path)
    if (file.size > MAX_JSON_BYTES) {
      throw new CheckpointError(
        `${path}: has ${file.size} bytes, expected at most ${MAX_JSON_BYTES}. ${REPLACE}`,
      )
    }
    return await file.readAt(0, file.size)
  } finally {
    await pool.close()
  }
}

function parseJson(bytes: Uint8Array, path: string): { value: unknown; text: string } {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return { value: JSON.parse(text), text }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CheckpointError(`${path}: is not valid JSON: ${reason}. ${REPLACE}`, { cause })
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`
}
