import { randomBytes } from 'node:crypto'
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import { CheckpointError } from '../../common/errors.js'
import { fileError, reasonInWords, systemErrorCode } from '../file-errors.js'
import { type FileSystem, syncFolder } from '../file-system.js'
import { CONFIG_FILE } from '../folder-names.js'

/** A folder being written beside the place it is meant for. */
export interface OutputFolder {
  /** Where to write: a folder of its own, on the same file system as the output. */
  readonly partial: string
  /**
   * Puts the folder in its place with one rename. A folder that it replaces is moved aside first, back when the
   * rename fails, and removed last, when the new one is on the disk under its name.
   *
   * @throws CheckpointError when the place was taken meanwhile or the system refuses; what was there before is kept
   */
  place(): Promise<void>
  /** Removes the partial folder and the parents created for it. Can be called again. */
  discard(): Promise<void>
}

/** What is at the place of the output. */
type Occupation = 'absent' | 'empty' | 'replaceable'

/**
 * Checks that `folder` can be written or replaced, and creates the partial folder beside it.
 *
 * @param folder a folder that is absent or empty, or with `force` one that holds a checkpoint
 * @param partialFolder where to write until it is whole, on the same file system; default: a new name beside it
 * @throws CheckpointError when it is neither or the place cannot be written to
 */
export async function prepareOutputFolder(
  system: FileSystem,
  folder: string,
  force: boolean,
  partialFolder?: string,
): Promise<OutputFolder> {
  try {
    const target = await followLink(system, resolve(folder))
    if ((await inspectPlace(system, target, force)) === 'absent') await requireNoneAside(system, target)
    const parent = dirname(target)
    const createdParents = await createParents(system, parent)
    const partial = partialFolder ?? siblingPath(target, 'partial')
    const discard = async () => {
      await system.rm(partial, { recursive: true, force: true, maxRetries: 3 })
      await removeEmpty(system, createdParents)
    }
    try {
      await system.mkdir(partial)
    } catch (error) {
      await removeEmpty(system, createdParents)
      throw error
    }
    const place = async () => {
      await syncFolder(system, partial)
      const aside = await movePartial(system, partial, target, await inspectPlace(system, target, force))
      await syncEntry(system, target, createdParents)
      if (aside !== undefined) await removeAside(system, target, aside)
    }
    return { partial, place, discard }
  } catch (error) {
    throw fileError(`cannot write ${folder}, choose another output`, error)
  }
}

/** A link to a folder stands for that folder: its contents belong on the disk that it was linked to. */
export async function followLink(system: FileSystem, target: string): Promise<string> {
  try {
    if (!(await system.lstat(target)).isSymbolicLink()) return target
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return target
    throw error
  }
  try {
    return await system.realpath(target)
  } catch (error) {
    throw fileError(`${target}: is a link that leads nowhere; remove it or choose another output`, error)
  }
}

async function inspectPlace(system: FileSystem, target: string, force: boolean): Promise<Occupation> {
  const found = await statIfThere(system, target)
  if (found === undefined) return 'absent'
  if (!found.isDirectory()) {
    throw new CheckpointError(`${target}: is a file; the output must be a folder. Choose another path`)
  }
  const realTarget = await system.realpath(target)
  if (contains(realTarget, await system.realpath('.'))) {
    throw new CheckpointError(
      `${target}: is the folder you are in or one above it, which cannot be replaced. Choose a new folder inside it`,
    )
  }
  if (found.dev !== (await system.stat(dirname(realTarget))).dev) {
    throw new CheckpointError(
      `${target}: is a mount point, which cannot be replaced. Choose a new folder inside it`,
    )
  }
  const names = await system.readdir(target)
  if (names.length === 0) return 'empty'
  if (!force) {
    throw new CheckpointError(
      `${target}: exists and is not empty. Choose another output, or replace it with --force (option force)`,
    )
  }
  if (!names.includes(CONFIG_FILE)) {
    throw new CheckpointError(
      `${target}: exists and does not look like a model folder (no ${CONFIG_FILE}), so --force (option force) ` +
        'does not replace it. Choose another output, or remove it yourself',
    )
  }
  return 'replaceable'
}

async function statIfThere(system: FileSystem, path: string) {
  try {
    return await system.stat(path)
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined
    throw error
  }
}

function contains(folder: string, inner: string): boolean {
  const way = relative(folder, inner)
  return way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}

/** The folders that had to be created, innermost first. */
export async function createParents(system: FileSystem, parent: string): Promise<string[]> {
  const missing: string[] = []
  for (let folder = parent; (await statIfThere(system, folder)) === undefined; folder = dirname(folder)) {
    missing.push(folder)
    if (folder === dirname(folder)) break
  }
  try {
    if (missing.length > 0) await system.mkdir(parent, { recursive: true })
    return missing
  } catch (error) {
    await removeEmpty(system, missing)
    throw error
  }
}

/** Removes folders that this writer created, as far as nobody else put anything in. */
export async function removeEmpty(system: FileSystem, folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    try {
      await system.rmdir(folder)
    } catch {}
  }
}

/** Asks for the entry of `target` to be on the disk, and those of the folders that were created for it. */
export async function syncEntry(
  system: FileSystem,
  target: string,
  createdParents: readonly string[],
): Promise<void> {
  for (const path of [target, ...createdParents]) await syncFolder(system, dirname(path))
}

/** `/models/.tiny.partial-4711-9f3a2c` beside `/models/tiny`. */
function siblingPath(target: string, purpose: string): string {
  return `${siblingStart(target, purpose)}${process.pid}-${randomBytes(4).toString('hex')}`
}

function siblingStart(target: string, purpose: string): string {
  const name = [...basename(target)].slice(0, 50).join('')
  return join(dirname(target), `.${name}.${purpose}-`)
}

/**
 * Where the content of a folder is that is missing because a process was killed while it replaced it.
 *
 * @returns undefined when there is none
 */
export async function contentAside(system: FileSystem, target: string): Promise<string | undefined> {
  const folder = dirname(target)
  const start = basename(siblingStart(target, 'replaced'))
  try {
    const name = (await system.readdir(folder)).find((one) => one.startsWith(start))
    return name === undefined ? undefined : join(folder, name)
  } catch (error) {
    // a parent that is not there, or may not be listed, holds nothing that could be told of
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(systemErrorCode(error) ?? '')) return undefined
    throw error
  }
}

/** What to say of {@link contentAside}. */
export function describeAside(aside: string): string {
  return `A process was killed while it replaced it, and its earlier content is in ${aside}: rename that back, or remove it`
}

async function requireNoneAside(system: FileSystem, target: string): Promise<void> {
  const aside = await contentAside(system, target)
  if (aside !== undefined) throw new CheckpointError(`${target}: is missing. ${describeAside(aside)}`)
}

/** @returns where the earlier content is now, when there was any */
async function movePartial(
  system: FileSystem,
  partial: string,
  target: string,
  occupation: Occupation,
): Promise<string | undefined> {
  if (occupation === 'absent') {
    await system.rename(partial, target)
  } else if (occupation === 'empty') {
    await system.rmdir(target)
    try {
      await system.rename(partial, target)
    } catch (error) {
      await system.mkdir(target)
      throw error
    }
  } else {
    return replace(system, partial, target)
  }
  return undefined
}

async function replace(system: FileSystem, partial: string, target: string): Promise<string> {
  const aside = siblingPath(target, 'replaced')
  await system.rename(target, aside)
  try {
    await system.rename(partial, target)
  } catch (error) {
    try {
      await system.rename(aside, target)
    } catch (second) {
      throw new CheckpointError(
        `${target}: could not be replaced: ${reasonInWords(error)}. Its earlier content could not be moved back ` +
          `(${reasonInWords(second)}) and is in ${aside}: rename it yourself`,
        { cause: error },
      )
    }
    throw error
  }
  return aside
}

async function removeAside(system: FileSystem, target: string, aside: string): Promise<void> {
  try {
    await system.rm(aside, { recursive: true, force: true, maxRetries: 3 })
  } catch (error) {
    throw new CheckpointError(
      `${target}: is written, complete and in its place, but its earlier content could not be removed: ` +
        `${reasonInWords(error)}. Remove ${aside} yourself`,
      { cause: error },
    )
  }
}
