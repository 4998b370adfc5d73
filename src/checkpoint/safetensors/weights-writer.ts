import { join } from 'node:path'
import { type FileSystem, writeAt, writeNewFile } from '../file-system.js'
import { SINGLE_WEIGHTS_FILE, shardFile, WEIGHTS_INDEX_FILE } from '../folder-names.js'
import { type FileMetadata, metadataOf } from './file-metadata.js'
import type { HeaderEntry } from './safetensors-header.js'
import { createShardWriter, type ShardWriter } from './shard-writer.js'

/** Names of files that only this writer makes begin so, until it knows how many shards there are. */
export const WORKING_FILE_PREFIX = '.shard-'

/** The weights of a model folder being written: one file, or shards and their index. */
export interface WeightsWriter {
  /** Writes a tensor to disk. Not to be called again before it is done. */
  add(entry: HeaderEntry, bytes: Uint8Array): Promise<void>
  /** Completes the files and gives them their names. @returns the size in bytes of each */
  finish(): Promise<Map<string, number>>
  /** Closes what is open. Can be called again. */
  close(): Promise<void>
}

/** Spreads tensors over shards in the order they come, each of `maxShardBytes` at most or of one tensor. */
export function createWeightsWriter(
  system: FileSystem,
  folder: string,
  maxShardBytes: number,
  metadata: FileMetadata,
): WeightsWriter {
  const complete: { readonly path: string; readonly size: number; readonly names: readonly string[] }[] = []
  let totalSize = 0
  let shard: ShardWriter | undefined

  const path = () => join(folder, `${WORKING_FILE_PREFIX}${complete.length + 1}`)
  const openShard = async () => {
    shard ??= await createShardWriter(system, path())
    return shard
  }
  const completeShard = async () => {
    const { finish, names } = await openShard()
    complete.push({ path: path(), size: await finish(metadataOf(metadata, names)), names })
    shard = undefined
  }

  return {
    async add(entry, bytes) {
      if (shard !== undefined && shard.bytes + bytes.length > maxShardBytes) await completeShard()
      await (await openShard()).add(entry, bytes)
      totalSize += bytes.length
    },
    async finish() {
      if (shard !== undefined || complete.length === 0) await completeShard()
      const sizes = new Map<string, number>()
      const fileOf = new Map<string, string>()
      for (const [i, { path, size, names }] of complete.entries()) {
        const file = complete.length === 1 ? SINGLE_WEIGHTS_FILE : shardFile(i + 1, complete.length)
        await system.rename(path, join(folder, file))
        sizes.set(file, size)
        for (const name of names) fileOf.set(name, file)
      }
      if (complete.length > 1) {
        const index = new TextEncoder().encode(indexText(totalSize, fileOf))
        await writeNewFile(system, join(folder, WEIGHTS_INDEX_FILE), (file) => writeAt(file, index, 0))
        sizes.set(WEIGHTS_INDEX_FILE, index.length)
      }
      return sizes
    },
    async close() {
      await shard?.close()
    },
  }
}

function indexText(totalSize: number, fileOf: ReadonlyMap<string, string>): string {
  const sorted = [...fileOf].sort((a, b) => (a[0] < b[0] ? -1 : 1))
  const index = { metadata: { total_size: totalSize }, weight_map: Object.fromEntries(sorted) }
  return `${JSON.stringify(index, null, 2)}\n`
}
