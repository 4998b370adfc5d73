import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CheckpointError, throwIfAborted } from '../common/errors.js'
import { networkError, statusError } from './hub-errors.js'
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
  /** Is told the bytes that are there. */
  readonly onBytes: (bytes: number) => void
  readonly signal: AbortSignal | undefined
  /** Milliseconds before the second try; each further one waits twice as long. */
  readonly patience: number
}

const TRIES = 5

/**
 * Fetches one file into the cache, going on where an earlier fetch was interrupted, and checks size and hash.
 *
 * @throws CheckpointError for an answer that is an error, a connection that is lost again and again, or other content
 */
export async function fetchBlob(request: BlobRequest): Promise<void> {
  const { blob, file, name, settings, signal, patience } = request
  const partial = `${blob}.incomplete`
  await mkdir(dirname(blob), { recursive: true })
  for (let attempt = 1; ; attempt++) {
    throwIfAborted(signal)
    let wait = patience * 2 ** (attempt - 1)
    try {
      const failure = await fetchRest(request, partial)
      if (failure === undefined) break
      if (attempt === TRIES || !mayPass(failure.status)) throw statusError(failure, name, settings)
      wait = Math.max(wait, failure.retryAfter)
    } catch (error) {
      if (attempt === TRIES || error instanceof CheckpointError || signal?.aborted) {
        throw networkError(error, name, settings, signal)
      }
    }
    await sleep(wait, undefined, { signal }).catch(() => throwIfAborted(signal))
  }
  await requireContent(file, name, partial)
  await rename(partial, blob)
}

function mayPass(status: number): boolean {
  return status === 429 || status >= 500
}

interface Failure {
  readonly status: number
  readonly code: string | null
  /** Milliseconds. */
  readonly retryAfter: number
}

/** Appends what is missing. @returns the answer where it is an error */
async function fetchRest(request: BlobRequest, partial: string): Promise<Failure | undefined> {
  const { file, url, settings, signal, onBytes } = request
  let have = await sizeOf(partial)
  if (have > file.size) {
    await rm(partial)
    have = 0
  }
  if (have === file.size && have > 0) return undefined
  const headers: Record<string, string> = have > 0 ? { Range: `bytes=${have}-` } : {}
  if (settings.token !== undefined) headers.Authorization = `Bearer ${settings.token}`
  const response = await fetch(url, { headers, ...(signal && { signal }) })
  if (!response.ok) {
    await response.body?.cancel()
    const retryAfter = Number(response.headers.get('Retry-After') ?? 0) * 1000 || 0
    return { status: response.status, code: response.headers.get('X-Error-Code'), retryAfter }
  }
  // a server that knows no ranges begins anew
  const goesOn = response.status === 206
  const handle = await open(partial, goesOn ? 'a' : 'w')
  try {
    await append(handle, response, goesOn ? have : 0, onBytes)
    await handle.sync()
  } finally {
    await handle.close()
  }
  const got = await sizeOf(partial)
  if (got < file.size) throw new Error(`the connection ended after ${got} of ${file.size} bytes`)
  return undefined
}

async function append(
  handle: FileHandle,
  response: Response,
  have: number,
  onBytes: (bytes: number) => void,
): Promise<void> {
  let bytes = have
  if (response.body === null) return
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    await handle.write(chunk)
    bytes += chunk.length
    onBytes(bytes)
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch {
    return 0
  }
}

/** Checks size and hash; a file of other content is removed, so that the next fetch begins anew. */
async function requireContent(file: HubFile, { repo, revision }: HubName, partial: string): Promise<void> {
  const size = await sizeOf(partial)
  const hash = size === file.size ? await hashOf(file, partial) : ''
  if (hash === file.etag) return
  await rm(partial, { force: true })
  const found =
    size === file.size ? `the hash ${hash}, expected ${file.etag}` : `${size} bytes, expected ${file.size}`
  throw new CheckpointError(
    `${repo}@${revision}: ${file.path} was fetched with ${found}. It was removed; try again, and if it happens again something between here and the hub changes files`,
  )
}

async function hashOf({ large, size }: HubFile, path: string): Promise<string> {
  const hash: Hash = createHash(large ? 'sha256' : 'sha1')
  if (!large) hash.update(`blob ${size}\0`)
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}
