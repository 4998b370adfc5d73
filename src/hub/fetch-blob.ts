import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { systemErrorCode } from '../checkpoint/file-errors.js'
import { writeAt } from '../checkpoint/file-system.js'
import { CheckpointError, throwIfAborted } from '../common/errors.js'
import { aloneWithBlob } from './blob-lock.js'
import { cacheError, inCache, sizeOf } from './cache-files.js'
import { networkError, statusError } from './hub-errors.js'
import { isTooLong, mayPass, retryAfter, TRIES, waitFor } from './hub-fetch.js'
import type { HubName, HubSettings } from './hub-settings.js'

/** A file of a model on the hub. */
export interface HubFile {
  readonly path: string
  readonly size: number
  /** What the cache calls its content: its SHA-256 for large files, its git hash for others. */
  readonly etag: string
  /** Whether `etag` is a SHA-256. */
  readonly large: boolean
}

/** Where a file comes from and goes to. */
export interface BlobRequest {
  readonly settings: HubSettings
  readonly name: HubName
  readonly file: HubFile
  readonly url: string
  /** Its place; beside it `.incomplete` holds what an interrupted fetch got. */
  readonly blob: string
  /** The folder of its locks. */
  readonly lock: string
  /** Is told the bytes that are there. */
  readonly onBytes: (bytes: number) => void
  readonly signal: AbortSignal | undefined
  /** Milliseconds before the second try; each further one waits twice as long. */
  readonly patience: number
}

/**
 * Fetches one file into the cache, going on where an earlier fetch was interrupted, and checks size and hash. What another
 * call, or process of this machine, fetches meanwhile is waited for.
 *
 * @throws CheckpointError for an answer that is an error, a connection that is lost again and again, other content, or a
 *   disk that does not take it
 */
export async function fetchBlob(request: BlobRequest): Promise<void> {
  const { blob, lock, file, onBytes, signal } = request
  const partial = `${blob}.incomplete`
  await inCache(blob, () => mkdir(dirname(blob), { recursive: true }))
  const taken = { folder: lock, blob, partial, bytes: file.size, onBytes, signal }
  await aloneWithBlob(taken, async () => {
    if (!(await fetchWhole(request, partial))) return
    await requireContent(request, partial)
    // hashing takes seconds
    if (await isInPlace(request, partial)) return
    await inCache(blob, () => rename(partial, blob))
  })
}

/** Whether a process of another machine, which locks do not keep out, was quicker. */
async function isInPlace({ blob, file }: BlobRequest, partial: string): Promise<boolean> {
  return (await sizeOf(partial)) === undefined && (await sizeOf(blob)) === file.size
}

/** Tries until all bytes are there; only tries that bring none count. @returns whether this process has put them there */
async function fetchWhole(request: BlobRequest, partial: string): Promise<boolean> {
  const { name, settings, signal, patience } = request
  let most = (await sizeOf(partial)) ?? 0
  for (let attempt = 1; ; attempt++) {
    throwIfAborted(signal)
    if (await isInPlace(request, partial)) return false
    let asked = 0
    try {
      const failure = await fetchRest(request, partial)
      if (failure === undefined) return true
      asked = failure.retryAfter
      if (attempt >= TRIES || !mayPass(failure.status) || isTooLong(asked)) {
        throw statusError(failure, name, settings)
      }
    } catch (error) {
      const have = (await sizeOf(partial)) ?? 0
      if (have > most) attempt = 1
      most = Math.max(most, have)
      if (attempt >= TRIES || error instanceof CheckpointError || signal?.aborted) {
        throw networkError(error, name, settings, signal)
      }
    }
    await waitFor(attempt, asked, { signal, patience })
  }
}

interface Failure {
  readonly status: number
  readonly code: string | null
  /** Milliseconds. */
  readonly retryAfter: number
}

/** Adds what is missing. @returns the answer where it is an error */
async function fetchRest(request: BlobRequest, partial: string): Promise<Failure | undefined> {
  const { file, url, settings, signal } = request
  let have = (await sizeOf(partial)) ?? 0
  if (have > file.size) {
    await inCache(partial, () => rm(partial))
    have = 0
  }
  if (have === file.size && have > 0) return undefined
  const headers: Record<string, string> = have > 0 ? { Range: `bytes=${have}-` } : {}
  if (settings.token !== undefined) headers.Authorization = `Bearer ${settings.token}`
  const response = await fetch(url, { headers, ...(signal && { signal }) })
  if (!response.ok) {
    await response.body?.cancel()
    const code = response.headers.get('X-Error-Code')
    return { status: response.status, code, retryAfter: retryAfter(response) }
  }
  await write(request, partial, response, have)
  const got = (await sizeOf(partial)) ?? 0
  if (got < file.size) throw new Error(`the connection ended after ${got} of ${file.size} bytes`)
  return undefined
}

async function write(
  { onBytes }: BlobRequest,
  partial: string,
  response: Response,
  have: number,
): Promise<void> {
  // a server that knows no ranges begins anew
  const goesOn = response.status === 206
  const handle = await openPartial(partial, goesOn)
  if (handle === undefined) {
    await response.body?.cancel()
    throw new Error(`${partial} is gone`)
  }
  try {
    let position = goesOn ? have : 0
    if (response.body !== null) {
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        // at its place, not at the end: a process of another machine may write the same bytes
        await inCache(partial, () => writeAt(handle, chunk, position))
        position += chunk.length
        onBytes(position)
      }
    }
    await inCache(partial, () => handle.sync())
  } finally {
    await handle.close()
  }
}

/** @returns undefined where it is to go on and is gone: the next try begins anew, or finds the blob in its place */
async function openPartial(partial: string, goesOn: boolean): Promise<FileHandle | undefined> {
  try {
    return await open(partial, goesOn ? 'r+' : 'w')
  } catch (error) {
    if (goesOn && systemErrorCode(error) === 'ENOENT') return undefined
    throw cacheError(partial, error)
  }
}

/** Checks size and hash; a file of other content is removed, so that the next fetch begins anew. */
async function requireContent({ file, name }: BlobRequest, partial: string): Promise<void> {
  const size = (await sizeOf(partial)) ?? 0
  const hash = size === file.size ? await hashOf(file, partial) : ''
  if (hash === file.etag) return
  await inCache(partial, () => rm(partial, { force: true }))
  const found =
    size === file.size ? `the hash ${hash}, expected ${file.etag}` : `${size} bytes, expected ${file.size}`
  throw new CheckpointError(
    `${name.repo}@${name.revision}: ${file.path} was fetched with ${found}. It was removed; try again, and if it happens again something between here and the hub changes files`,
  )
}

async function hashOf({ large, size }: HubFile, path: string): Promise<string> {
  const hash: Hash = createHash(large ? 'sha256' : 'sha1')
  if (!large) hash.update(`blob ${size}\0`)
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}
