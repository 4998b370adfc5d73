import { requireObject } from '../../common/check-option.js'
import { CheckpointError } from '../../common/errors.js'
import type { ModelSource } from '../model-source.js'
import { blobSource, type FileLike } from './blob-source.js'

/** What is used of a `FileSystemHandle`. */
export interface EntryLike {
  /** `'file'` or `'directory'`. */
  readonly kind: string
  /** Of a file. */
  getFile?(): Promise<FileLike>
}

/** What is used of a `FileSystemDirectoryHandle`. */
export interface DirectoryLike {
  /** Its name, without the folder above it. */
  readonly name: string
  /** What it holds. */
  values(): AsyncIterable<EntryLike>
}

/**
 * The files of a folder that a page was given by `showDirectoryPicker()`, or of its own (`navigator.storage`).
 *
 * @throws CheckpointError when it cannot be read or holds no files
 */
export async function directorySource(directory: DirectoryLike): Promise<ModelSource> {
  requireObject('directory', directory)
  const files: FileLike[] = []
  try {
    for await (const entry of directory.values()) {
      if (entry.kind === 'file' && entry.getFile !== undefined) files.push(await entry.getFile())
    }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CheckpointError(`${directory.name}: cannot be read (${reason}). Give the folder again`, {
      cause,
    })
  }
  return blobSource(directory.name, files)
}
