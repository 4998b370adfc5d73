import { basename, join } from 'node:path'
import { requireNumber, requireObject, requirePath } from '../../common/check-option.js'
import { CheckpointError, ShapeError } from '../../common/errors.js'
import { DTYPES, type Dtype, isDtype, tensorBytes } from '../dtype.js'
import { fileError } from '../file-errors.js'
import { copyFileBytes, type FileSystem, nodeFileSystem, writeAt, writeNewFile } from '../file-system.js'
import { isPlainFileName, WEIGHTS_INDEX_FILE } from '../folder-names.js'
import { type FileMetadata, metadataOf } from '../safetensors/file-metadata.js'
import { isWellFormed, MAX_DIMENSIONS, quoted } from '../safetensors/header-text.js'
import { buildHeader, type HeaderEntry } from '../safetensors/safetensors-header.js'
import { createWeightsWriter, WORKING_FILE_PREFIX } from '../safetensors/weights-writer.js'
import { prepareOutputFolder } from './output-folder.js'
import { takeTurns } from './write-turns.js'

/** Options of {@link createCheckpointWriter}. */
export interface CheckpointWriterOptions {
  /** Whether to replace a model folder that is already there. Default false. */
  readonly force?: boolean
  /** Bytes of tensors in one file; a larger tensor has a file of its own. Default 5e9. */
  readonly maxShardBytes?: number
  /**
   * The `__metadata__` of every safetensors file, or what gives it for a file of the tensors named. Default
   * `{ format: 'pt' }`, which transformers asks for.
   */
  readonly metadata?: FileMetadata
  /** @internal Where to write until all is complete: a path on the same file system where nothing is. */
  readonly partial?: string
}

/** What was written. */
export interface WrittenCheckpoint {
  /** Names of the files in the folder, sorted. */
  readonly files: string[]
  /** Bytes of all these files together. */
  readonly bytes: number
}

/**
 * A model folder being written. Nothing is at its place before `finish` is done; until then all is in a temporary
 * folder beside it. Calls may overlap: they are carried out one after the other. When one fails while it writes, the
 * temporary folder is removed and all further calls fail.
 */
export interface CheckpointWriter {
  /**
   * Writes a tensor to disk at once. `bytes` (row-major, little-endian) must not change until this is done.
   *
   * @throws ShapeError when the shape is impossible or does not fit `bytes`
   * @throws CheckpointError when the name is taken or impossible, or the disk refuses
   */
  add(name: string, dtype: Dtype, shape: readonly number[], bytes: Uint8Array): Promise<void>
  /**
   * Adds a file that is not weights, e.g. `config.json`. Text is written as UTF-8.
   *
   * @param name without a path
   * @throws CheckpointError when the name is taken or impossible, or the disk refuses
   */
  addFile(name: string, content: string | Uint8Array): Promise<void>
  /** Adds a copy of a file under its own name. @throws CheckpointError as `addFile`, or when it cannot be read */
  copyFile(path: string): Promise<void>
  /**
   * Completes the files and moves the folder to its place.
   *
   * @throws CheckpointError when the disk refuses or the place was taken meanwhile; what was there before is kept
   */
  finish(): Promise<WrittenCheckpoint>
  /**
   * Removes all that is temporary; calls still waiting fail. Safe at any time, more than once, and without effect
   * once `finish` is done.
   *
   * @throws CheckpointError naming the temporary folder when the system refuses to remove it
   */
  discard(): Promise<void>
}

/**
 * Begins to write a model folder: `model.safetensors`, or shards and their index. Tensors go to disk as they come;
 * beside the output, disk space for one shard is needed, and of memory a few megabytes. The same tensors in the same
 * order give the same bytes, and as long as they fit one file in any order.
 *
 * @param folder where the output goes: absent or empty, or with `force` a model folder, which is kept until the new
 *   one is complete. Missing parents are created
 * @throws CheckpointError when the place is taken or cannot be written to
 * @throws OptionError when `maxShardBytes` is not a positive number
 * @example
 * const writer = await createCheckpointWriter('out')
 * try {
 *   await writer.add('lm_head.weight', 'F32', [4, 2], encodeFloats('F32', weights))
 *   await writer.addFile('config.json', JSON.stringify(config))
 *   await writer.finish()
 * } finally {
 *   await writer.discard()
 * }
 */
export function createCheckpointWriter(
  folder: string,
  options: CheckpointWriterOptions = {},
): Promise<CheckpointWriter> {
  return createCheckpointWriterOn(nodeFileSystem, folder, options)
}

/** {@link createCheckpointWriter} on any file system. @internal */
export async function createCheckpointWriterOn(
  system: FileSystem,
  folder: string,
  options: CheckpointWriterOptions = {},
): Promise<CheckpointWriter> {
  requirePath('folder', folder)
  requireObject('options', options)
  const { force = false, maxShardBytes = 5e9, metadata = { format: 'pt' }, partial } = options
  requireNumber('maxShardBytes', maxShardBytes, maxShardBytes >= 1, 'a positive number of bytes')
  // metadata that cannot be written is refused now, not after hours of work
  buildHeader([], metadataOf(metadata, []))
  const output = await prepareOutputFolder(system, folder, force, partial)
  const weights = createWeightsWriter(system, output.partial, maxShardBytes, metadata)
  const turns = takeTurns(folder, output, weights.close)
  const tensorNames = new Set<string>()
  const fileNames = new Set<string>()
  const otherSizes = new Map<string, number>()

  return {
    async add(name, dtype, shape, bytes) {
      turns.assertOpen()
      checkTensor(folder, { name, dtype, shape }, bytes.length)
      claimName(folder, 'tensor', name, name, tensorNames)
      const entry = { name, dtype, shape: shape.slice() }
      return turns.run(() => weights.add(entry, bytes))
    },
    async addFile(name, content) {
      turns.assertOpen()
      claimFileName(folder, name, fileNames)
      const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content
      return turns.run(async () => {
        await writeNewFile(system, join(output.partial, name), (file) => writeAt(file, bytes, 0))
        otherSizes.set(name, bytes.length)
      })
    },
    async copyFile(path) {
      turns.assertOpen()
      const name = basename(path)
      claimFileName(folder, name, fileNames)
      return turns.run(async () => {
        otherSizes.set(name, await copyInto(system, path, join(output.partial, name)))
      })
    },
    async finish() {
      turns.assertOpen()
      return turns.finish(async () => {
        const sizes = new Map([...otherSizes, ...(await weights.finish())])
        let bytes = 0
        for (const size of sizes.values()) bytes += size
        return { files: [...sizes.keys()].sort(), bytes }
      })
    },
    discard: turns.discard,
  }
}

/** @returns the bytes copied */
async function copyInto(system: FileSystem, path: string, copy: string): Promise<number> {
  const source = await openSource(system, path)
  try {
    return await writeNewFile(system, copy, (file) => copyFileBytes(source, file))
  } finally {
    await source.close()
  }
}

async function openSource(system: FileSystem, path: string) {
  try {
    if (!(await system.stat(path)).isFile())
      throw new CheckpointError(`${path}: is no plain file and cannot be copied`)
    return await system.open(path, 'r')
  } catch (error) {
    throw fileError(`cannot read ${path}`, error)
  }
}

function checkTensor(folder: string, { name, dtype, shape }: HeaderEntry, bytes: number): void {
  const owner = `${folder}: tensor ${quoted(name)}`
  if (name === '__metadata__' || !isWellFormed(name)) {
    throw new CheckpointError(`${owner}: a safetensors file cannot hold a tensor of this name; rename it`)
  }
  if (!isDtype(dtype)) {
    throw new CheckpointError(
      `${owner}: unknown dtype ${quoted(String(dtype))}, expected one of ${DTYPES.join(', ')}`,
    )
  }
  if (shape.length > MAX_DIMENSIONS || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new ShapeError(
      `${owner}: the shape [${shape}] is not a list of at most ${MAX_DIMENSIONS} whole numbers from 0`,
    )
  }
  const expected = tensorBytes(dtype, shape)
  if (bytes !== expected) {
    throw new ShapeError(`${owner}: the shape [${shape}] of ${dtype} needs ${expected} bytes, got ${bytes}`)
  }
}

function claimFileName(folder: string, name: string, taken: Set<string>): void {
  // some file systems take names that differ only in case for the same
  const lower = name.toLowerCase()
  const ownName =
    lower.endsWith('.safetensors') || lower === WEIGHTS_INDEX_FILE || lower.startsWith(WORKING_FILE_PREFIX)
  if (!isPlainFileName(name) || ownName) {
    throw new CheckpointError(
      `${folder}: a file named ${quoted(name)} cannot be added; expected a plain name that is not one of the weight files`,
    )
  }
  claimName(folder, 'file', name, lower, taken)
}

function claimName(folder: string, kind: string, name: string, key: string, taken: Set<string>): void {
  if (taken.has(key))
    throw new CheckpointError(`${folder}: ${kind} ${quoted(name)} was already added; expected it once`)
  taken.add(key)
}
