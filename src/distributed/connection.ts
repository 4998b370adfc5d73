import { OptionError, UnsupportedError } from '../common/errors.js'
import type { JobKind } from './jobs.js'

/** What is used of a connection of ioredis. */
export interface Redis {
  readonly status: string
  on(event: 'error', listener: (error: Error) => void): void
  connect(): Promise<void>
  ping(): Promise<string>
  get(key: string): Promise<string | null>
  getBuffer(key: string): Promise<Buffer | null>
  set(key: string, value: string | Buffer, unit: 'EX', seconds: number): Promise<unknown>
  exists(...keys: string[]): Promise<number>
  expire(key: string, seconds: number): Promise<number>
  unlink(...keys: string[]): Promise<number>
  scan(
    cursor: string,
    match: 'MATCH',
    pattern: string,
    count: 'COUNT',
    keys: number,
  ): Promise<[string, string[]]>
  mget(...keys: string[]): Promise<(string | null)[]>
  disconnect(): void
}

/** What is used of a job of BullMQ. */
export interface QueuedJob {
  readonly id?: string
  readonly queueName: string
  /** Whose its lock is. */
  readonly token?: string
  readonly data: JobData
  readonly opts: { removeOnComplete?: unknown }
  readonly returnvalue: unknown
  readonly failedReason?: string
  /** Workers that had it and let its lock expire. */
  readonly stalledCounter: number
  readonly progress: unknown
  remove(): Promise<void>
  updateProgress(progress: number): Promise<void>
}

/** What travels in a job: all else is in blobs. */
export interface JobData {
  readonly run: string
  readonly kind: JobKind
  /** As of `toJson`. */
  readonly input: string
}

interface QueueOptions {
  readonly connection: Redis
  readonly prefix: string
}

/** What is used of BullMQ. */
export interface BullMq {
  readonly Queue: new (
    name: string,
    options: QueueOptions & { readonly skipVersionCheck?: boolean; readonly skipMetasUpdate?: boolean },
  ) => {
    add(name: string, data: JobData, options: object): Promise<QueuedJob>
    getJob(id: string): Promise<QueuedJob | undefined>
    getJobState(id: string): Promise<string>
    getJobs(states: readonly string[]): Promise<(QueuedJob | undefined)[]>
    getJobCounts(...states: string[]): Promise<Record<string, number>>
    on(event: 'error', listener: (error: Error) => void): void
    close(): Promise<void>
  }
  readonly Worker: new (
    name: string,
    work: (job: QueuedJob) => Promise<unknown>,
    options: QueueOptions & {
      readonly concurrency: number
      readonly lockDuration: number
      readonly stalledInterval: number
      readonly maxStalledCount: number
    },
  ) => {
    on(event: 'error', listener: (error: Error) => void): void
    close(force?: boolean): Promise<void>
  }
}

/** The packages of the queue. */
export interface QueuePackages {
  readonly bullmq: BullMq
  connect(): Redis
}

/** How long the first connection may take. */
const CONNECT_MILLISECONDS = 10_000

/**
 * Loads the packages of the queue, for a server at `url`.
 *
 * @throws OptionError when it is no URL of a Redis server
 * @throws UnsupportedError when a package is missing, saying what to install
 */
export async function loadQueue(url: string): Promise<QueuePackages> {
  requireRedisUrl(url)
  try {
    // variables, so that neither the compiler nor a bundler looks for packages that need not be there
    const names = ['bullmq', 'ioredis']
    const [bullmq, ioredis] = await Promise.all(names.map((name) => import(name)))
    const { Redis } = ioredis as { Redis: new (url: string, options: object) => Redis }
    const connect = () => {
      const redis = new Redis(url, {
        lazyConnect: true,
        maxRetriesPerRequest: null,
        retryStrategy: (times: number) => Math.min(2000, 100 * times),
      })
      // reported by whoever waits; without a listener it would end the process
      redis.on('error', () => {})
      return redis
    }
    return { bullmq: bullmq as BullMq, connect }
  } catch (cause) {
    const reason = String(cause instanceof Error ? cause.message : cause).split('\n')[0]
    throw new UnsupportedError(
      'work over many machines needs the packages bullmq and ioredis: npm install bullmq ioredis. ' +
        `The reason given: ${reason}`,
      { cause },
    )
  }
}

/**
 * Connects, or says why not.
 *
 * @throws UnsupportedError without the password
 */
export async function connectOrThrow({ connect }: QueuePackages, url: string): Promise<Redis> {
  const redis = connect()
  let reason = 'it did not answer'
  redis.on('error', (error) => {
    reason = error.message
  })
  let timer: NodeJS.Timeout | undefined
  try {
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(reason)), CONNECT_MILLISECONDS)
    })
    await Promise.race([redis.connect().then(() => redis.ping()), late])
    return redis
  } catch (error) {
    redis.disconnect()
    const message = reason === 'it did not answer' ? (error as Error).message : reason
    throw new UnsupportedError(
      `cannot reach Redis at ${shownUrl(url)}: ${withoutPassword(message, url)}. ` +
        'Start a server there (Debian: apt-get install redis-server), or give its URL, ' +
        'redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER], rediss:// for TLS',
    )
  } finally {
    clearTimeout(timer)
  }
}

function requireRedisUrl(url: unknown): asserts url is string {
  if (typeof url === 'string' && URL.canParse(url) && /^rediss?:$/.test(new URL(url).protocol)) {
    return requirePercents(new URL(url))
  }
  const shown = typeof url === 'string' && !url.includes('@') ? JSON.stringify(url) : 'another value'
  throw new OptionError(
    'redis',
    `found ${shown}; expected the URL of a Redis server, e.g. redis://localhost:6379`,
  )
}

function requirePercents({ username, password }: URL): void {
  try {
    decodeURIComponent(username)
    decodeURIComponent(password)
  } catch {
    throw new OptionError(
      'redis',
      'found a % in the user or password that begins no such code as %20; expected %25 where a % is meant',
    )
  }
}

/** A URL as messages show it: without user and password. */
export function shownUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname === '/' ? '' : pathname}`
}

function withoutPassword(message: string, url: string): string {
  const { password } = new URL(url)
  if (password === '') return message
  return message.replaceAll(password, '***').replaceAll(decodeURIComponent(password), '***')
}

/** All keys like a pattern. */
export async function scanKeys(redis: Redis, pattern: string): Promise<string[]> {
  const keys = new Set<string>()
  let cursor = '0'
  do {
    const [next, found] = await redis.scan(cursor, 'MATCH', pattern, 'COUNT', 1000)
    cursor = next
    for (const key of found) keys.add(key)
  } while (cursor !== '0')
  return [...keys]
}
