import type { FileHandle } from 'node:fs/promises'
import { tensorBytes } from '../dtype.js'
import { copyBuffer, copyBytes, type FileSystem, writeAt, writeNewFile } from '../file-system.js'
import { buildHeader, byAlignment, type HeaderEntry } from './safetensors-header.js'

/** One safetensors file being written. */
export interface ShardWriter {
  /** Bytes of the tensors added so far. */
  readonly bytes: number
  /** Names of the tensors added so far. */
  readonly names: readonly string[]
  /** Writes the tensor's bytes to disk. Not to be called again before it is done. */
  add(entry: HeaderEntry, bytes: Uint8Array): Promise<void>
  /** Writes the file itself and removes what was needed for it. @returns its size in bytes */
  finish(metadata: Readonly<Record<string, string>>): Promise<number>
  /** Closes what is open. Can be called again, and after `finish`. */
  close(): Promise<void>
}

/**
 * Writes a safetensors file whose tensors come one at a time. The header stands first in the file and is known last,
 * so the tensors go to a spill file, from which `finish` copies them, in the order of their alignment, a few
 * megabytes at a time.
 *
 * @param path of the file; the spill is beside it
 */
export async function createShardWriter(system: FileSystem, path: string): Promise<ShardWriter> {
  const spillPath = `${path}.spill`
  const spill = await system.open(spillPath, 'wx+')
  const entries: (HeaderEntry & { readonly spilled: number })[] = []
  const names: string[] = []
  let bytesSpilled = 0
  let closed = false

  const close = async () => {
    if (closed) return
    closed = true
    await spill.close()
  }

  const copySpill = async (file: FileHandle, metadata: Readonly<Record<string, string>>): Promise<number> => {
    const sorted = entries.slice().sort(byAlignment)
    const header = buildHeader(sorted, metadata)
    await writeAt(file, header, 0)
    const buffer = copyBuffer()
    let position = header.length
    for (const { dtype, shape, spilled } of sorted) {
      const bytes = tensorBytes(dtype, shape)
      const from = { handle: spill, position: spilled }
      position += await copyBytes(from, { handle: file, position }, bytes, buffer)
    }
    return position
  }

  return {
    get bytes() {
      return bytesSpilled
    },
    names,
    async add(entry, bytes) {
      await writeAt(spill, bytes, bytesSpilled)
      entries.push({ ...entry, spilled: bytesSpilled })
      names.push(entry.name)
      bytesSpilled += bytes.length
    },
    async finish(metadata) {
      const size = await writeNewFile(system, path, (file) => copySpill(file, metadata))
      await close()
      await system.rm(spillPath)
      return size
    },
    close,
  }
}
