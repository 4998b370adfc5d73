import { mkdir, rmdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemErrorCode } from '../checkpoint/file-errors.js'
import { nodeFileSystem } from '../checkpoint/file-system.js'
import { lockFolder } from '../checkpoint/output/folder-lock.js'
import { CheckpointError, throwIfAborted } from '../common/errors.js'
import { cacheError, sizeOf } from './cache-files.js'
import { LONGEST_WAIT, TRIES } from './hub-fetch.js'

/** Milliseconds between two looks at what another fetches. */
const LOOK_INTERVAL = 100
/** Milliseconds after which who holds a blob and brings no byte is waited for no longer: each try may hang, and wait, so long. */
const LONGEST_SILENCE = 2 * TRIES * LONGEST_WAIT

/** Which file is to be this call's alone. */
export interface BlobLock {
  /** The folder of its locks: there only while someone has one. */
  readonly folder: string
  readonly blob: string
  readonly partial: string
  readonly bytes: number
  /** Is told the bytes that are there, while another fetches them. */
  readonly onBytes: (bytes: number) => void
  readonly signal: AbortSignal | undefined
  /** Milliseconds for which another may bring nothing; default: longer than any fetch that goes on may. */
  readonly longestSilence?: number
}

/**
 * Runs `work` as the only one, of all calls and processes of this machine, that fetches a blob; while another does, it
 * waits, and what that one has fetched is not fetched again. A process that was killed holds nothing. A machine is a host
 * name: containers of several that share a cache are not kept apart.
 *
 * @throws CheckpointError when the other brings nothing for most of an hour, AbortedError
 */
export async function aloneWithBlob(lock: BlobLock, work: () => Promise<void>): Promise<void> {
  const release = await takeBlob(lock)
  if (release === undefined) return
  try {
    await work()
  } finally {
    await release()
  }
}

/** @returns gives the blob back; undefined when it is there */
async function takeBlob(lock: BlobLock): Promise<(() => Promise<void>) | undefined> {
  const { folder, blob, partial, bytes, onBytes, signal, longestSilence = LONGEST_SILENCE } = lock
  let [seen, since] = [-1, Date.now()]
  for (;;) {
    throwIfAborted(signal)
    const release = await lockNow(lock)
    if ((await sizeOf(blob)) === bytes) {
      await release?.()
      return undefined
    }
    if (release !== undefined) return release
    const have = (await sizeOf(partial)) ?? 0
    if (have !== seen) [seen, since] = [have, Date.now()]
    else if (Date.now() - since > longestSilence) {
      throw new CheckpointError(
        `${blob}: another fetch holds it and brings nothing. Wait for it; when nothing fetches it any more, remove the folder ${folder}`,
      )
    }
    onBytes(Math.min(have, bytes))
    await sleep(LOOK_INTERVAL, undefined, signal && { signal }).catch(() => {})
  }
}

/** @returns gives the blob back; undefined when another has it */
async function lockNow({ folder, blob }: BlobLock): Promise<(() => Promise<void>) | undefined> {
  for (;;) {
    try {
      await mkdir(folder, { recursive: true })
      const release = await lockFolder(nodeFileSystem, blob, folder)
      return async () => {
        await release()
        // not where another has a lock by now
        await rmdir(folder).catch(() => {})
      }
    } catch (error) {
      // what is no error of the system says that another has it
      if (error instanceof CheckpointError) return undefined
      // whoever had it before has just removed the folder
      if (systemErrorCode(error) !== 'ENOENT') throw cacheError(folder, error)
    }
  }
}
