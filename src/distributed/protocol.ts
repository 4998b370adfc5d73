import { isBlobName } from './blobs.js'
import { type Redis, scanKeys } from './connection.js'

/** What coordinator and workers agree on. Keys and queues of Redis all begin with {@link PREFIX}. */
export const PREFIX = 'gptvq'

/** How long things may take, in milliseconds; tests make them shorter. */
export interface Timing {
  /** A worker that says nothing for so long has lost its job, which then goes to another. */
  readonly lock: number
  /** How often lost jobs are looked for. */
  readonly stalled: number
  /** How often coordinator and workers say that they are there. */
  readonly heartbeat: number
  /** How often the coordinator looks at its jobs. */
  readonly poll: number
  /** How long the coordinator waits for a worker, or for Redis to come back; how long a step of a job may take. */
  readonly patience: number
}

export const usualTiming: Timing = {
  lock: 30_000,
  stalled: 10_000,
  heartbeat: 4000,
  poll: 200,
  patience: 600_000,
}

/** Workers that may have lost one job before it is given up: it may be what ends them. */
export const MOST_STALLED = 10

/** Heartbeats that may be missed. */
const MISSED = 8

export const lifetime = ({ heartbeat }: Timing) => Math.max(1, Math.ceil((MISSED * heartbeat) / 1000))

/** The queue of runs that compute alike and keep their tensors in the same kind of place. */
export function queueName(fingerprint: string, place: 'redis' | 'shared'): string {
  return `${fingerprint}-${place}`
}

export const runKey = (run: string) => `${PREFIX}:run:${run}`
export const workerKey = (worker: string) => `${PREFIX}:worker:${worker}`

/** What a worker says of itself. */
export interface WorkerRecord {
  readonly host: string
  readonly pid: number
  readonly version: string
  readonly node: string
  readonly queues: readonly string[]
  /** Whether it has a job at present. */
  readonly busy: boolean
}

/** All workers that are there. */
export async function presentWorkers(redis: Redis): Promise<WorkerRecord[]> {
  const keys = await scanKeys(redis, workerKey('*'))
  if (keys.length === 0) return []
  const records = await redis.mget(...keys)
  return records.flatMap((record) => (record === null ? [] : [JSON.parse(record) as WorkerRecord]))
}

/** Whether that is a {@link JobResult}: in Redis others may write. */
export function isJobResult(value: unknown): value is JobResult {
  if (typeof value !== 'object' || value === null) return false
  const { status, output, blobs, message } = value as Record<string, unknown>
  if (status === 'done') return typeof output === 'string' && Array.isArray(blobs) && blobs.every(isBlobName)
  return status === 'dropped' || (status === 'error' && typeof message === 'string')
}

/** What a job returns. */
export type JobResult =
  /** `output` as of `toJson`, its larger arrays in `blobs`. */
  | { readonly status: 'done'; readonly output: string; readonly blobs: readonly string[] }
  /** The work itself is refused: it would be everywhere. */
  | { readonly status: 'error'; readonly code: string; readonly message: string; readonly option?: string }
  /** Given back unfinished: the worker ends, or it knew of no such run. */
  | { readonly status: 'dropped' }
