import { type FileHandle, open, stat } from 'node:fs/promises'
import { CheckpointError } from '../../common/errors.js'
import type { ByteSource } from '../byte-source.js'
import { fileError } from '../file-errors.js'

/** Files opened for reading, of which only a few stay open at a time. */
export interface FilePool {
  /** @throws CheckpointError when the file is missing, is no plain file or cannot be read */
  open(path: string): Promise<ByteSource>
  /** Closes every file; reading from its sources is an error afterwards. Can be called again. */
  close(): Promise<void>
}

interface PooledFile {
  readonly path: string
  readonly size: number
  readonly modified: number
  readers: number
}

/** The system limit of one read is 2^31 - 1 bytes. */
const MAX_READ_BYTES = 2 ** 30

/**
 * A pool that closes the file unused for longest whenever more than `maxOpen` are open. A file that is being read
 * stays open, so that as many reads at once as there are files can exceed the limit.
 */
export function createFilePool(maxOpen: number): FilePool {
  // in the order of their last use
  const handles = new Map<PooledFile, Promise<FileHandle>>()
  let closed = false

  const closeIdle = async () => {
    for (const [file, handle] of handles) {
      if (handles.size <= maxOpen) return
      if (file.readers > 0) continue
      handles.delete(file)
      await (await handle).close()
    }
  }

  const openAgain = async (file: PooledFile): Promise<FileHandle> => {
    try {
      await closeIdle()
      return await openUnchanged(file)
    } catch (error) {
      handles.delete(file)
      throw error
    }
  }

  const withHandle = async <T>(file: PooledFile, read: (handle: FileHandle) => Promise<T>): Promise<T> => {
    if (closed) throw new CheckpointError(`${file.path}: was closed, nothing more can be read from it`)
    file.readers++
    try {
      const handle = handles.get(file) ?? Promise.resolve().then(() => openAgain(file))
      handles.delete(file)
      handles.set(file, handle)
      return await read(await handle)
    } catch (error) {
      throw fileError(`cannot read ${file.path}`, error)
    } finally {
      file.readers--
    }
  }

  return {
    async open(path) {
      const file = await identify(path)
      return {
        path,
        size: file.size,
        readAt: (position, length) =>
          withHandle(file, (handle) => readExactly(handle, file, position, length)),
      }
    },
    async close() {
      closed = true
      const open = [...handles.values()]
      handles.clear()
      for (const handle of await Promise.allSettled(open)) {
        if (handle.status === 'fulfilled') await handle.value.close()
      }
    },
  }
}

/** A look at the file before it is opened: opening a pipe would wait forever. */
async function identify(path: string): Promise<PooledFile> {
  try {
    const found = await stat(path)
    if (!found.isFile())
      throw new CheckpointError(
        `${path}: is ${found.isDirectory() ? 'a folder' : 'no plain file'}, expected a file`,
      )
    return { path, size: found.size, modified: found.mtimeMs, readers: 0 }
  } catch (error) {
    throw fileError(`cannot read ${path}`, error)
  }
}

async function openUnchanged(file: PooledFile): Promise<FileHandle> {
  const handle = await open(file.path, 'r')
  try {
    const { size, mtimeMs } = await handle.stat()
    if (size === file.size && mtimeMs === file.modified) return handle
    throw new CheckpointError(
      `${file.path}: was changed while it was in use (${file.size} bytes before, ${size} now). Start again when nothing writes to it`,
    )
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function readExactly(
  handle: FileHandle,
  file: PooledFile,
  position: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = allocateBytes(length, file.path)
  let filled = 0
  while (filled < length) {
    const wanted = Math.min(length - filled, MAX_READ_BYTES)
    const { bytesRead } = await handle.read(bytes, filled, wanted, position + filled)
    if (bytesRead === 0) {
      throw new CheckpointError(
        `${file.path}: ends at byte ${position + filled}, though it had ${file.size} bytes when it was opened. ` +
          'Something cut it short meanwhile: fetch it again and start again',
      )
    }
    filled += bytesRead
  }
  return bytes
}

function allocateBytes(length: number, path: string): Uint8Array {
  try {
    return new Uint8Array(length)
  } catch (cause) {
    throw new CheckpointError(`${path}: ${length} bytes at once do not fit into memory`, { cause })
  }
}
