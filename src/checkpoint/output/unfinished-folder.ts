import { createHash } from 'node:crypto'
import { basename, dirname, join, resolve } from 'node:path'
import { fileError, systemErrorCode } from '../file-errors.js'
import type { FileSystem } from '../file-system.js'
import { isLockFile, lockFolder } from './folder-lock.js'
import { createParents, followLink, removeEmpty, syncEntry } from './output-folder.js'

/** The folder beside an output in which a run keeps what it has done, for another to go on. */
export interface UnfinishedFolder {
  readonly path: string
  /** Lets another run have it; what it holds stays. */
  release(): Promise<void>
  /** Removes it, and the parents that were created for it. */
  remove(): Promise<void>
}

/** `/models/.tiny.unfinished` beside `/models/tiny`. */
export async function unfinishedPath(system: FileSystem, output: string): Promise<string> {
  try {
    const target = await followLink(system, resolve(output))
    const name = basename(target)
    const digest = createHash('sha256').update(name).digest('hex').slice(0, 12)
    const short = name.length > 50 ? `${[...name].slice(0, 50).join('')}-${digest}` : name
    return join(dirname(target), `.${short}.unfinished`)
  } catch (error) {
    throw fileError(`cannot write ${output}, choose another output`, error)
  }
}

/**
 * Takes the folder of unfinished work on `output` for this process, and creates it where there is none.
 *
 * @throws CheckpointError when another process of this machine works there, or it cannot be written to
 */
export async function claimUnfinished(system: FileSystem, output: string): Promise<UnfinishedFolder> {
  const path = await unfinishedPath(system, output)
  try {
    const createdParents = await createParents(system, dirname(path))
    await makeFolder(system, path)
    const release = await lockFolder(system, output, path)
    await syncEntry(system, path, createdParents)
    const remove = async () => {
      for (const name of await namesIn(system, path)) {
        if (!isLockFile(name))
          await system.rm(join(path, name), { recursive: true, force: true, maxRetries: 3 })
      }
      // the lock last, and the folder only if it is empty: from here on it may be another's
      await release()
      await removeEmpty(system, [path, ...createdParents])
    }
    return { path, release, remove }
  } catch (error) {
    throw fileError(`cannot write ${output}, choose another output`, error)
  }
}

async function makeFolder(system: FileSystem, path: string): Promise<void> {
  try {
    await system.mkdir(path)
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error
  }
}

/** None where someone else has removed the folder. */
async function namesIn(system: FileSystem, path: string): Promise<string[]> {
  try {
    return await system.readdir(path)
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return []
    throw error
  }
}

/** Bytes of all files of a folder and the folders in it. */
export async function folderBytes(system: FileSystem, path: string): Promise<number> {
  let bytes = 0
  for (const name of await system.readdir(path)) {
    const found = await system.lstat(join(path, name))
    bytes += found.isDirectory() ? await folderBytes(system, join(path, name)) : found.size
  }
  return bytes
}
