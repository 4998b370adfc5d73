import { join } from 'node:path'
import { writeAt } from '../../checkpoint/file-system.js'
import { createFilePool } from '../../checkpoint/sources/file-pool.js'
import { CheckpointError } from '../../common/errors.js'
import { bytesOf } from '../../common/view-bytes.js'
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
  const lengths = parts.map(({ length }) => length)
  await readParts(folder, name, lengths, async (values, index) => bytesOf(parts[index]).set(bytesOf(values)))
}

/** Hands out the parts of a file in turn, each as so many values. @throws CheckpointError as {@link readValues} */
export async function readParts(
  folder: string,
  name: string,
  lengths: readonly number[],
  use: (values: Float32Array, index: number) => Promise<void>,
): Promise<void> {
  const path = join(folder, name)
  const pool = createFilePool(1)
  try {
    const file = await pool.open(path)
    const expected = 4 * lengths.reduce((sum, length) => sum + length, 0)
    if (file.size !== expected) throw damagedFile(path, `has ${file.size} bytes, expected ${expected}`)
    let position = 0
    for (const [index, length] of lengths.entries()) {
      const { buffer, byteOffset } = await file.readAt(position, 4 * length)
      await use(new Float32Array(buffer, byteOffset, length), index)
      position += 4 * length
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
