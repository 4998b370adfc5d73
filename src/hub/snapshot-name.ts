import { basename, dirname, resolve } from 'node:path'

/** `org/name` of `.../models--org--name/snapshots/COMMIT`, `name` of one without an owner; undefined for any other folder. */
export function hubName(folder: string): string | undefined {
  const snapshots = dirname(folder)
  if (basename(snapshots) !== 'snapshots') return undefined
  const [, name] = /^models--(.+)$/.exec(basename(dirname(snapshots))) ?? []
  return name?.replace('--', '/')
}

/** What a model is called: the last part of its path, but of one in the cache of the hub, where that is a hash, its name. */
export function modelName(path: string): string {
  const folder = resolve(path)
  return basename(hubName(folder) ?? folder)
}
