import { lstat, readlink, realpath } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, sep } from 'node:path'
import type { OutwardLink } from '../model-source.js'

/**
 * Where a link in a folder leads, when that is nowhere or out of the folder. The cache of the hub has the files of a
 * snapshot as links to `blobs` beside `snapshots`: those are at home.
 */
export async function outwardLink(folder: string, path: string): Promise<OutwardLink | undefined> {
  if (!(await isLink(path))) return undefined
  let to: string
  try {
    to = await realpath(path)
  } catch {
    return { to: await readlink(path), isBroken: true }
  }
  const home = await realpath(folder)
  const snapshots = dirname(home)
  const isAtHome =
    contains(home, to) ||
    (basename(snapshots) === 'snapshots' && contains(join(dirname(snapshots), 'blobs'), to))
  return isAtHome ? undefined : { to, isBroken: false }
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink()
  } catch {
    // what cannot be looked at fails where it is read, which says why
    return false
  }
}

function contains(folder: string, inner: string): boolean {
  const way = relative(folder, inner)
  return way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}
