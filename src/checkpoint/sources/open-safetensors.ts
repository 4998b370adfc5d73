import { readSafetensors, type SafetensorsFile } from '../safetensors/safetensors-reader.js'
import { createFilePool } from './file-pool.js'

/**
 * Opens a safetensors file on this machine's disk.
 *
 * @throws CheckpointError when it is missing or cannot be read, and as `readSafetensors`
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const pool = createFilePool(1)
  try {
    return await readSafetensors(await pool.open(path), pool.close)
  } catch (error) {
    await pool.close()
    throw error
  }
}
