import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { type FileSystem, writeAt } from '../../checkpoint/file-system.js'
import type { StoredData } from './graph.js'

/** Where constants begin: runtimes map files by pages, and read constants best that begin on a boundary. */
const ALIGNMENT = 64

/** The files of the constants of a model. */
export interface DataFiles {
  /** Appends bytes. */
  store(bytes: Uint8Array): Promise<StoredData>
  /** Bytes so far. */
  bytes(): number
  /** Names of the files, in order. */
  names(): readonly string[]
  /** All bytes of the only file; for few of them. */
  readAll(): Promise<Uint8Array>
  /** Sees them on the disk, and closes them. */
  close(): Promise<void>
  /** Closes them and removes them. */
  remove(): Promise<void>
}

/**
 * Writes constants to `NAME_data`, `NAME_data_1` and so on, none longer than `fileBytes` unless a single constant is.
 *
 * @param folder where, e.g. `out/onnx`
 * @param name of the model's file, e.g. `'model.onnx'`
 */
export function createDataFiles(
  system: FileSystem,
  folder: string,
  name: string,
  fileBytes: number,
): DataFiles {
  const files: { readonly name: string; readonly handle: FileHandle; end: number }[] = []
  let total = 0

  const fileFor = async (bytes: number) => {
    const last = files.at(-1)
    if (last !== undefined && aligned(last.end) + bytes <= fileBytes) return last
    const own = files.length === 0 ? `${name}_data` : `${name}_data_${files.length}`
    const file = { name: own, handle: await system.open(join(folder, own), 'wx+'), end: 0 }
    files.push(file)
    return file
  }
  const closeAll = async () => {
    for (const { handle } of files) await handle.close()
  }
  return {
    async store(bytes) {
      const file = await fileFor(bytes.length)
      const offset = aligned(file.end)
      await writeAt(file.handle, bytes, offset)
      file.end = offset + bytes.length
      total += bytes.length
      return { file: files.indexOf(file), offset, bytes: bytes.length }
    },
    bytes: () => total,
    names: () => files.map((file) => file.name),
    async readAll() {
      const whole = new Uint8Array(files[0]?.end ?? 0)
      for (let at = 0; at < whole.length; ) {
        const { bytesRead } = await files[0].handle.read(whole, at, whole.length - at, at)
        if (bytesRead === 0) throw new Error(`${files[0].name} ends at ${at} of ${whole.length} bytes`)
        at += bytesRead
      }
      return whole
    },
    async close() {
      for (const { handle } of files) await handle.sync()
      await closeAll()
    },
    async remove() {
      await closeAll()
      for (const file of files) await system.rm(join(folder, file.name), { force: true })
    },
  }
}

function aligned(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT
}
