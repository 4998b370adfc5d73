import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { CheckpointError } from '../../common/errors.js'
import { fileError, systemErrorCode } from '../file-errors.js'
import { nodeFileSystem } from '../file-system.js'
import type { ModelSource } from '../model-source.js'
import { contentAside, describeAside } from '../output/output-folder.js'
import { createFilePool } from './file-pool.js'
import { outwardLink } from './folder-links.js'

/** Weight files open at a time. */
const MAX_OPEN_FILES = 4

/** The files of a folder on this machine's disk. */
export function folderSource(folder: string): ModelSource {
  return diskSource(folder, (name) => join(folder, name))
}

/** A model that is one file on the disk; beside it lie its further parts, where there are any. */
export function singleFileSource(path: string): ModelSource {
  const main = basename(path)
  const pathOf = (name: string) => (name === main ? path : join(dirname(path), name))
  return { ...diskSource(dirname(path), pathOf), place: path, main }
}

function diskSource(folder: string, pathOf: (name: string) => string): ModelSource {
  const pool = createFilePool(MAX_OPEN_FILES)
  return {
    place: folder,
    list: () => listFolder(folder),
    async size(name) {
      try {
        const found = await stat(pathOf(name))
        return found.isFile() ? found.size : undefined
      } catch (error) {
        throw fileError(`cannot read ${pathOf(name)}`, error)
      }
    },
    open: (name) => pool.open(pathOf(name)),
    outwardLink: (name) => outwardLink(folder, pathOf(name)),
    close: pool.close,
  }
}

/** Names of the plain files in `folder`, links to files among them, sorted. */
async function listFolder(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => entry.name)
      .sort()
  } catch (error) {
    const code = systemErrorCode(error)
    if (code === 'ENOENT') {
      throw new CheckpointError(`${folder}: there is no such folder. ${await advice(folder)}`, {
        cause: error,
      })
    }
    if (code === 'ENOTDIR') {
      throw new CheckpointError(
        `${folder}: is a file, expected a model folder. Give the folder that holds it`,
        {
          cause: error,
        },
      )
    }
    throw fileError(`cannot read the folder ${folder}`, error)
  }
}

/** What to do about a folder that is missing. */
async function advice(folder: string): Promise<string> {
  const aside = await contentAside(nodeFileSystem, resolve(folder)).catch(() => undefined)
  if (aside !== undefined) return describeAside(aside)
  return 'Give the path of a model folder or GGUF file on this machine, or the name of a model on the hub (org/name)'
}
