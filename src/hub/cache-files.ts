import { stat } from 'node:fs/promises'
import { fileError } from '../checkpoint/file-errors.js'

/** Does something with a file of the cache: what the system refuses is no fault of the network. @throws CheckpointError */
export async function inCache<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw cacheError(path, error)
  }
}

/** The error to throw for one that the system gives for a place in the cache. */
export function cacheError(path: string, error: unknown): unknown {
  return fileError(`cannot write ${path}; HF_HUB_CACHE names another place for what is fetched`, error)
}

/** Bytes of a file; undefined where there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    () => undefined,
  )
}
