import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { systemErrorCode } from '../checkpoint/file-errors.js'
import { UnsupportedError } from '../common/errors.js'
import { type Redis, scanKeys } from './connection.js'

/** Bytes by names that begin with their SHA-256, for all machines of a run. */
export interface Blobs {
  /** @returns the name; what is there already is not written again unless it is to be written `anew` */
  put(bytes: Uint8Array, options?: PutOptions): Promise<string>
  /** @throws BlobError when it is gone or its bytes are others */
  get(name: string): Promise<Uint8Array>
  remove(name: string): Promise<void>
  /** Has what is there, by these names, last for another {@link BLOB_SECONDS}. */
  keepAlive(names: Iterable<string>): Promise<void>
  /** Removes what is left of the run, results that nobody has fetched too. */
  clear(): Promise<void>
  /** Bytes that may be put at a time. */
  readonly capacity: number
}

export interface PutOptions {
  readonly anew?: boolean
  /** Whose bytes they are, part of the name: so who removes them takes nothing from another who has the same ones. */
  readonly owner?: string
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

const nameOf = (bytes: Uint8Array, owner?: string) => [sha256(bytes), ...(owner ? [owner] : [])].join('.')

/** Whether that is a name as {@link Blobs.put} gives: no other becomes a path. */
export const isBlobName = (name: unknown) =>
  typeof name === 'string' && /^[0-9a-f]{64}(\.[\w-]+)?$/.test(name)

function checked(name: string, bytes: Uint8Array, where: string): Uint8Array {
  if (sha256(bytes) === name.split('.')[0]) return bytes
  throw new BlobError(`${where} is damaged: its SHA-256 is not the one it is named by`)
}

/** Blobs in Redis, in parts that expire. @param most bytes at a time, default {@link REDIS_BYTES} */
export function redisBlobs(redis: Redis, prefix: string, run: string, most = REDIS_BYTES): Blobs {
  /** Of what was put from here. */
  const sizes = new Map<string, number>()
  const parts = new Map<string, number>()
  let total = 0
  const key = (name: string, part: number) => `${prefix}:blob:${run}:${name}:${part}`
  const partsOf = (length: number) => Math.max(1, Math.ceil(length / PART_BYTES))
  const keys = (name: string) => Array.from({ length: parts.get(name) ?? 1 }, (_, part) => key(name, part))
  return {
    async put(bytes, { anew = false, owner } = {}) {
      const name = nameOf(bytes, owner)
      const known = sizes.has(name)
      if (!anew && known && (await redis.exists(...keys(name))) === partsOf(bytes.length)) return name
      if (!known && total + bytes.length > most) throw tooLarge(total + bytes.length, most)
      if (!known) total += bytes.length
      sizes.set(name, bytes.length)
      parts.set(name, partsOf(bytes.length))
      for (let part = 0; part < partsOf(bytes.length); part++) {
        const piece = bytes.subarray(part * PART_BYTES, (part + 1) * PART_BYTES)
        const value = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
        const length = Buffer.from(Uint32Array.of(partsOf(bytes.length)).buffer)
        await redis.set(key(name, part), Buffer.concat([length, value]), 'EX', BLOB_SECONDS)
      }
      return name
    },
    async get(name) {
      const pieces: Buffer[] = []
      for (let part = 0, count = 1; part < count; part++) {
        const value = await redis.getBuffer(key(name, part))
        if (value === null || value.length < 4)
          throw new BlobError(`blob ${name.slice(0, 12)} is not in Redis`)
        count = value.readUInt32LE(0)
        parts.set(name, count)
        pieces.push(value.subarray(4))
      }
      return checked(name, Buffer.concat(pieces), `blob ${name.slice(0, 12)} in Redis`)
    },
    async remove(name) {
      const gone = keys(name)
      // before anything else has its turn, such as another removal, or bytes of that name that are put again
      total -= sizes.get(name) ?? 0
      sizes.delete(name)
      parts.delete(name)
      await redis.unlink(...gone)
    },
    async keepAlive(names) {
      for (const name of names) for (const part of keys(name)) await redis.expire(part, BLOB_SECONDS)
    },
    async clear() {
      const left = await scanKeys(redis, `${prefix}:blob:${run}:*`)
      if (left.length > 0) await redis.unlink(...left)
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
  // both come from Redis, where others may write
  if (!/^[\w-]+$/.test(run)) throw new BlobError(`${JSON.stringify(run)} is no name of a run`)
  const own = join(folder, `${FOLDER_PREFIX}${run}`)
  const place = (name: string) => {
    if (isBlobName(name)) return join(own, name)
    throw new BlobError(`${JSON.stringify(name)} is no name of a blob`)
  }
  return {
    async put(bytes, { anew = false, owner } = {}) {
      const name = nameOf(bytes, owner)
      const size = await stat(place(name)).then(
        (found) => found.size,
        () => undefined,
      )
      if (!anew && size === bytes.length) return name
      await mkdir(own, { recursive: true })
      const unfinished = `${place(name)}.${process.pid}.${Math.random().toString(36).slice(2)}`
      await writeFile(unfinished, bytes)
      await rename(unfinished, place(name))
      return name
    },
    async get(name) {
      try {
        return checked(name, await readFile(place(name)), place(name))
      } catch (error) {
        if (error instanceof BlobError) throw error
        throw new BlobError(`${place(name)} cannot be read (${systemErrorCode(error) ?? error})`)
      }
    },
    async remove(name) {
      await rm(place(name), { force: true })
    },
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
