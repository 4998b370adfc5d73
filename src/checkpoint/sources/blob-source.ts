import { requirePath } from '../../common/check-option.js'
import { CheckpointError, OptionError } from '../../common/errors.js'
import { shownValue } from '../../common/shown-value.js'
import type { ByteSource } from '../byte-source.js'
import { fileIn, lastPart, type ModelSource } from '../model-source.js'

/** What is used of the `Blob`s and `File`s of browsers and Node. */
export interface BlobLike {
  /** Bytes in all. */
  readonly size: number
  /** The part from `start` up to but not including `end`. */
  slice(start: number, end: number): BlobLike
  /** Its bytes. */
  arrayBuffer(): Promise<ArrayBuffer>
}

/** A `File` of a browser or of Node. */
export interface FileLike extends BlobLike {
  /** Without its folder. */
  readonly name: string
}

/**
 * The files of a model that are at hand as blobs: picked (`<input type="file" webkitdirectory>`), dropped, fetched or
 * made. They are read in parts, when they are needed.
 *
 * @param place how errors name the whole, e.g. the folder's name
 * @param files picked files, or blobs by name; a GGUF file alone, or in parts, is the model itself
 * @throws CheckpointError when there are none, or two have one name
 */
export function blobSource(
  place: string,
  files: Iterable<FileLike> | ReadonlyMap<string, BlobLike>,
): ModelSource {
  requirePath('place', place)
  if (!(Symbol.iterator in Object(files))) {
    throw new OptionError('files', `expected a list or a Map of files, got ${shownValue(files)}`)
  }
  const byName = new Map<string, BlobLike>()
  for (const [name, blob] of named(files)) {
    if (byName.has(name)) {
      throw new CheckpointError(
        `${place}: holds two files named ${JSON.stringify(name)}; give those of one folder`,
      )
    }
    byName.set(name, blob)
  }
  const names = [...byName.keys()].sort()
  if (names.length === 0) throw new CheckpointError(`${place}: holds no files; give those of a model folder`)
  const main = names.every((name) => /\.gguf$/i.test(name)) ? names[0] : undefined
  const find = (name: string): BlobLike => {
    const blob = byName.get(name)
    if (blob !== undefined) return blob
    throw new CheckpointError(`${fileIn({ place }, name)}: there is no such file among the ${names.length}`)
  }
  return {
    place,
    ...(main !== undefined && { main }),
    list: async () => names,
    size: async (name) => find(name).size,
    open: async (name) => blobBytes(fileIn({ place }, name), find(name)),
  }
}

function named(files: Iterable<FileLike> | ReadonlyMap<string, BlobLike>): Iterable<[string, BlobLike]> {
  if (files instanceof Map) return files as ReadonlyMap<string, BlobLike>
  return Array.from(files as Iterable<FileLike>, (file): [string, BlobLike] => {
    if (typeof file?.name === 'string') return [lastPart(file.name), file]
    throw new OptionError('files', `expected files with names, got ${shownValue(file)}`)
  })
}

/** A blob as bytes that can be read from any position. @internal */
export function blobBytes(path: string, blob: BlobLike): ByteSource {
  return {
    path,
    size: blob.size,
    async readAt(position, length) {
      let bytes: Uint8Array
      try {
        bytes = new Uint8Array(await blob.slice(position, position + length).arrayBuffer())
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause)
        throw new CheckpointError(`${path}: cannot be read (${reason}). Give the files again`, { cause })
      }
      if (bytes.length === length) return bytes
      throw new CheckpointError(
        `${path}: gave ${bytes.length} bytes from byte ${position} on, expected ${length}. Give the files again`,
      )
    },
  }
}
