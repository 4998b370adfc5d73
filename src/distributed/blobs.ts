import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { systemErrorCode } from '../checkpoint/file-errors.js'
import { UnsupportedError } from '../common/errors.js'
import type { Redis } from './connection.js'

/** Bytes by their SHA-256, for all machines of a run. */
export interface Blobs {
  /** @returns the hash; what is there already is not written again unless it is to be written `anew` */
  put(bytes: Uint8Array, anew?: boolean): Promise<string>
  /** @throws BlobError when it is gone or its bytes are others */
  get(hash: string): Promise<Uint8Array>
  remove(hash: string): Promise<void>
  /** Has what is there, by these hashes, last for another {@link BLOB_SECONDS}. */
  keepAlive(hashes: Iterable<string>): Promise<void>
  /** Removes what is left of the run, results that nobody has fetched too. */
  clear(): Promise<void>
  /** Bytes that may be put at a time. */
  readonly capacity: number
}

/** A blob that is gone or damaged: the work is done again. */
export class BlobError extends Error {}

/** How long blobs last that nobody asks to keep: those of dead runs are gone after that. */
export const BLOB_SECONDS = 3600

/** Bytes that one run may have in Redis at a time, which holds them in memory. */
export const REDIS_BYTES = 2 ** 30

/** Bytes of one value in Redis. */
const PART_BYTES = 2 ** 24

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

function checked(hash: string, bytes: Uint8Array, where: string): Uint8Array {
  if (sha256(bytes) === hash) return bytes
  throw new BlobError(`${where} is damaged: its SHA-256 is not the one it is named by`)
}

/** Blobs in Redis, in parts that expire. @param most bytes at a time, default {@link REDIS_BYTES} */
export function redisBlobs(redis: Redis, prefix: string, run: string, most = REDIS_BYTES): Blobs {
  /** Of what was put from here. */
  const sizes = new Map<string, number>()
  const parts = new Map<string, number>()
  let total = 0
  const key = (hash: string, part: number) => `${prefix}:blob:${run}:${hash}:${part}`
  const partsOf = (length: number) => Math.max(1, Math.ceil(length / PART_BYTES))
  const keys = (hash: string) => Array.from({ length: parts.get(hash) ?? 1 }, (_, part) => key(hash, part))
  return {
    async put(bytes, anew = false) {
      const hash = sha256(bytes)
      const known = sizes.has(hash)
      if (!anew && known && (await redis.exists(...keys(hash))) === partsOf(bytes.length)) return hash
      if (!known && total + bytes.length > most) throw tooLarge(total + bytes.length, most)
      if (!known) total += bytes.length
      sizes.set(hash, bytes.length)
      parts.set(hash, partsOf(bytes.length))
      for (let part = 0; part < partsOf(bytes.length); part++) {
        const piece = bytes.subarray(part * PART_BYTES, (part + 1) * PART_BYTES)
        const value = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
        const length = Buffer.from(Uint32Array.of(partsOf(bytes.length)).buffer)
        await redis.set(key(hash, part), Buffer.concat([length, value]), 'EX', BLOB_SECONDS)
      }
      return hash
    },
    async get(hash) {
      const pieces: Buffer[] = []
      for (let part = 0, count = 1; part < count; part++) {
        const value = await redis.getBuffer(key(hash, part))
        if (value === null || value.length < 4)
          throw new BlobError(`blob ${hash.slice(0, 12)} is not in Redis`)
        count = value.readUInt32LE(0)
        parts.set(hash, count)
        pieces.push(value.subarray(4))
      }
      return checked(hash, Buffer.concat(pieces), `blob ${hash.slice(0, 12)} in Redis`)
    },
    async remove(hash) {
      total -= sizes.get(hash) ?? 0
      await redis.unlink(...keys(hash))
      sizes.delete(hash)
      parts.delete(hash)
    },
    async keepAlive(hashes) {
      for (const hash of hashes) for (const part of keys(hash)) await redis.expire(part, BLOB_SECONDS)
    },
    async clear() {
      let cursor = '0'
      do {
        const [next, found] = await redis.scan(cursor, 'MATCH', `${prefix}:blob:${run}:*`, 'COUNT', 1000)
        if (found.length > 0) await redis.unlink(...found)
        cursor = next
      } while (cursor !== '0')
    },
    capacity: most,
  }
}

function tooLarge(bytes: number, most: number): UnsupportedError {
  const megabytes = (count: number) => `${Math.ceil(count / 2 ** 20)} MiB`
  return new UnsupportedError(
    `the tensors of the jobs at work take ${megabytes(bytes)}, Redis is given ${megabytes(most)} of them at most; ` +
      'give the coordinator and all workers a folder that they share (--shared DIR)',
  )
}

/** Blobs as files of a folder that all machines share, which each may see under a path of its own. */
export function folderBlobs(folder: string, run: string): Blobs {
  const own = join(folder, `${FOLDER_PREFIX}${run}`)
  const place = (hash: string) => join(own, hash)
  return {
    async put(bytes, anew = false) {
      const hash = sha256(bytes)
      const size = await stat(place(hash)).then(
        (found) => found.size,
        () => undefined,
      )
      if (!anew && size === bytes.length) return hash
      await mkdir(own, { recursive: true })
      const unfinished = `${place(hash)}.${process.pid}.${Math.random().toString(36).slice(2)}`
      await writeFile(unfinished, bytes)
      await rename(unfinished, place(hash))
      return hash
    },
    async get(hash) {
      try {
        return checked(hash, await readFile(place(hash)), place(hash))
      } catch (error) {
        if (error instanceof BlobError) throw error
        throw new BlobError(`${place(hash)} cannot be read (${systemErrorCode(error) ?? error})`)
      }
    },
    remove: (hash) => rm(place(hash), { force: true }),
    async keepAlive() {
      const now = new Date()
      await utimes(own, now, now).catch(() => {})
    },
    clear: () => rm(own, { recursive: true, force: true }),
    capacity: Number.POSITIVE_INFINITY,
  }
}

const FOLDER_PREFIX = 'gptvq-run-'

/** Removes what dead runs left in a shared folder: folders of runs that nobody has kept alive for long. */
export async function sweepFolder(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(FOLDER_PREFIX)) continue
    const path = join(folder, name)
    const modified = await stat(path).then(
      ({ mtimeMs }) => mtimeMs,
      () => Date.now(),
    )
    if (Date.now() - modified > 1000 * BLOB_SECONDS) await rm(path, { recursive: true, force: true })
  }
}
