import { join } from 'node:path'
import { createFilePool } from '../../checkpoint/byte-source.js'
import { writeAt } from '../../checkpoint/file-system.js'
import { CheckpointError } from '../../errors.js'
import type { WriteFile } from './journal.js'

/** Values of 4 bytes. */
export type Values = Float32Array | Int32Array

/** Writes arrays one behind the other, as they lie in memory. */
export function writeValues(parts: Iterable<Values> | AsyncIterable<Values>): WriteFile {
  return async (handle) => {
    let position = 0
    for await (const part of parts) {
      await writeAt(handle, bytesOf(part), position)
      position += part.byteLength
    }
  }
}

/**
 * Fills arrays with what {@link writeValues} wrote, one after the other.
 *
 * @throws CheckpointError when the file holds more or fewer values
 */
export async function readValues(folder: string, name: string, parts: readonly Values[]): Promise<void> {
  const path = join(folder, name)
  const pool = createFilePool(1)
  try {
    const file = await pool.open(path)
    const expected = parts.reduce((sum, { byteLength }) => sum + byteLength, 0)
    if (file.size !== expected) throw damagedFile(path, `has ${file.size} bytes, expected ${expected}`)
    let position = 0
    for (const part of parts) {
      bytesOf(part).set(await file.readAt(position, part.byteLength))
      position += part.byteLength
    }
  } finally {
    await pool.close()
  }
}

/** The error for a file of an unfinished run that is not as it was written. */
export function damagedFile(path: string, found: string): CheckpointError {
  return new CheckpointError(
    `${path}: ${found}. The unfinished run is damaged: remove its folder to begin anew`,
  )
}

function bytesOf({ buffer, byteOffset, byteLength }: Values): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}
