import { randomBytes } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { CheckpointError } from '../../common/errors.js'
import { fileError, systemErrorCode } from '../file-errors.js'
import { nodeFileSystem, writeNewFile } from '../file-system.js'
import { createParents, removeEmpty, syncEntry } from './output-folder.js'

/** What may stand at the place of a file, and how it is told. */
export interface OutputFileOptions {
  /** Replace a file of the same kind that is already there. */
  readonly force: boolean
  /** What files of this kind begin with. */
  readonly signature: string
  /** What a file of this kind is called, e.g. `'a GGUF file'`. */
  readonly kind: string
}

/**
 * Writes one file beside its place and moves it there when it is whole and on the disk. Missing parents are created.
 *
 * @throws CheckpointError when the place is taken or cannot be written to; what was there before is kept then
 */
export async function writeOutputFile<T>(
  output: string,
  options: OutputFileOptions,
  write: (handle: FileHandle) => Promise<T>,
): Promise<T> {
  const target = resolve(output)
  await requireOutputPlace(output, options)
  const name = basename(target).slice(0, 50)
  const partial = join(dirname(target), `.${name}.partial-${randomBytes(6).toString('hex')}`)
  let createdParents: readonly string[] = []
  try {
    createdParents = await createParents(nodeFileSystem, dirname(target))
    const result = await writeNewFile(nodeFileSystem, partial, write)
    await requireOutputPlace(output, options)
    await nodeFileSystem.rename(partial, target)
    await syncEntry(nodeFileSystem, target, createdParents)
    return result
  } catch (error) {
    throw fileError(`cannot write ${output}, choose another output`, error)
  } finally {
    await nodeFileSystem.rm(partial, { force: true })
    await removeEmpty(nodeFileSystem, createdParents)
  }
}

/**
 * Refuses a place that is taken, unless by a file of the kind that may be replaced.
 *
 * @throws CheckpointError
 */
export async function requireOutputPlace(
  output: string,
  { force, signature, kind }: OutputFileOptions,
): Promise<void> {
  const beginning = await beginningOf(resolve(output), output, signature.length)
  if (beginning === undefined) return
  if (!force) {
    throw new CheckpointError(
      `${output}: exists. Choose another output, or replace it with --force (option force)`,
    )
  }
  if (beginning === signature) return
  throw new CheckpointError(
    `${output}: exists and does not look like ${kind}, so --force (option force) does not replace it. ` +
      'Choose another output, or remove it yourself',
  )
}

/** The first bytes of a file, undefined when there is none. */
async function beginningOf(target: string, output: string, length: number): Promise<string | undefined> {
  try {
    const handle = await nodeFileSystem.open(target, 'r')
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, 0)
      return buffer.subarray(0, bytesRead).toString('latin1')
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined
    throw fileError(`cannot write ${output}, choose another output`, error)
  }
}
