import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { CheckpointError } from '../../common/errors.js'
import { fileError, systemErrorCode } from '../file-errors.js'
import { type FileSystem, writeAt, writeNewFile } from '../file-system.js'
import { createParents, followLink, removeEmpty, syncEntry } from './output-folder.js'

/** The folder beside an output in which a run keeps what it has done, for another to go on. */
export interface UnfinishedFolder {
  readonly path: string
  /** Lets another run have it; what it holds stays. */
  release(): Promise<void>
  /** Removes it, and the parents that were created for it. */
  remove(): Promise<void>
}

/** Holds the process that works in the folder. */
const LOCK_FILE = 'lock.json'

/** Folders that this process works in. */
const claimed = new Set<string>()

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
    await lock(system, output, path)
    await syncEntry(system, path, createdParents)
    const release = async () => {
      claimed.delete(path)
      await system.rm(join(path, LOCK_FILE), { force: true })
    }
    const remove = async () => {
      claimed.delete(path)
      await system.rm(path, { recursive: true, force: true, maxRetries: 3 })
      await removeEmpty(system, createdParents)
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

/** A process that was killed leaves its lock behind: that of one that is no more is taken over. */
async function lock(system: FileSystem, output: string, path: string): Promise<void> {
  const file = join(path, LOCK_FILE)
  const owner = await ownerOf(system, file)
  const works = owner === process.pid ? claimed.has(path) : owner !== undefined && isRunning(owner)
  if (works) {
    throw new CheckpointError(
      `${output}: the process ${owner} is writing it. Wait for it or choose another output; when that is no process ` +
        `of gptvq, remove ${file}`,
    )
  }
  await system.rm(file, { force: true })
  const text = JSON.stringify({ pid: process.pid, host: hostname() })
  await writeNewFile(system, file, (handle) => writeAt(handle, new TextEncoder().encode(text), 0))
  claimed.add(path)
}

/** The process of this machine that holds a lock. What runs on another machine cannot be told from what has ended. */
async function ownerOf(system: FileSystem, file: string): Promise<number | undefined> {
  try {
    const handle = await system.open(file, 'r')
    try {
      const { pid, host } = JSON.parse(await handle.readFile('utf8')) as { pid?: unknown; host?: unknown }
      return host === hostname() && Number.isSafeInteger(pid) ? Number(pid) : undefined
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || error instanceof SyntaxError) return undefined
    throw error
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return systemErrorCode(error) === 'EPERM'
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
