import type { FileHandle } from 'node:fs/promises'
import * as fs from 'node:fs/promises'

/** What writing a checkpoint asks of the operating system: a seam, so that tests can let a disk run full. */
export type FileSystem = Pick<
  typeof fs,
  'lstat' | 'mkdir' | 'open' | 'readdir' | 'realpath' | 'rename' | 'rm' | 'rmdir' | 'stat'
>

/** The file system of this machine. */
export const nodeFileSystem: FileSystem = fs

const MAX_WRITE_BYTES = 2 ** 30
const COPY_BYTES = 4 * 2 ** 20

/** Writes all of `bytes` at `position`. */
export async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    const wanted = Math.min(bytes.length - written, MAX_WRITE_BYTES)
    const { bytesWritten } = await handle.write(bytes, written, wanted, position + written)
    written += bytesWritten
  }
}

/** A buffer for {@link copyBytes}. */
export function copyBuffer(): Uint8Array {
  return new Uint8Array(COPY_BYTES)
}

/** A stretch of a file. */
export interface Stretch {
  readonly handle: FileHandle
  readonly position: number
}

/**
 * Copies up to `bytes` bytes by way of `buffer`.
 *
 * @returns the bytes copied: fewer than `bytes` when the source ends before
 */
export async function copyBytes(
  from: Stretch,
  to: Stretch,
  bytes: number,
  buffer: Uint8Array,
): Promise<number> {
  let copied = 0
  while (copied < bytes) {
    const wanted = Math.min(buffer.length, bytes - copied)
    const { bytesRead } = await from.handle.read(buffer, 0, wanted, from.position + copied)
    if (bytesRead === 0) break
    await writeAt(to.handle, buffer.subarray(0, bytesRead), to.position + copied)
    copied += bytesRead
  }
  return copied
}

/** Copies a whole file, however long it is. @returns its size in bytes */
export function copyFileBytes(from: FileHandle, to: FileHandle): Promise<number> {
  const whole = Number.MAX_SAFE_INTEGER
  return copyBytes({ handle: from, position: 0 }, { handle: to, position: 0 }, whole, copyBuffer())
}

/** Creates a file, lets `write` fill it, and returns when its bytes are on the disk. */
export async function writeNewFile<T>(
  system: FileSystem,
  path: string,
  write: (handle: FileHandle) => Promise<T>,
): Promise<T> {
  const handle = await system.open(path, 'wx')
  try {
    const result = await write(handle)
    await handle.sync()
    return result
  } finally {
    await handle.close()
  }
}

/**
 * Asks for a folder's entries to be on the disk. Not every system can do this for a folder, and none needs it for
 * the files to be whole, so a refusal is no failure.
 */
export async function syncFolder(system: FileSystem, path: string): Promise<void> {
  try {
    const handle = await system.open(path, 'r')
    await handle.sync().finally(() => handle.close())
  } catch {}
}
