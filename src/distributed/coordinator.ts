import { randomUUID } from 'node:crypto'
import { access } from 'node:fs/promises'
import { AbortedError, OptionError, UnsupportedError } from '../common/errors.js'
import { folderBlobs, redisBlobs, sweepFolder } from './blobs.js'
import { connectOrThrow, loadQueue, type Redis, shownUrl } from './connection.js'
import { type Arithmetic, fingerprint } from './fingerprint.js'
import type { JobInput, JobKind } from './jobs.js'
import { startLockKeeper } from './lock-keeper.js'
import { type CoordinatorState, finishJob, type Pending, pollJob, submit } from './pending-jobs.js'
import {
  lifetime,
  PREFIX,
  presentWorkers,
  queueName,
  runKey,
  type Timing,
  usualTiming,
  type WorkerRecord,
} from './protocol.js'
import { repeat } from './repeat.js'
import { sweepQueue, sweepQueues } from './sweep.js'

/** Where the queue is and how tensors travel. */
export interface CoordinatorOptions {
  /** The URL of the Redis server. */
  readonly redis: string
  /** A folder that all machines see; undefined: tensors go through Redis. */
  readonly shared?: string | undefined
  readonly arithmetic: Arithmetic
  readonly timing?: Timing
}

/** Hands out jobs and collects their results. */
export interface Coordinator {
  /**
   * Has a job done by some worker.
   *
   * @throws the error that the work ended with; UnsupportedError when no worker or no Redis could be had for long;
   *   AbortedError
   */
  run(kind: JobKind, input: JobInput, watch: JobWatch): Promise<unknown>
  /** Workers that can take the jobs, as last seen. */
  workers(): number
  /** Bytes of tensors that jobs may have at a time. */
  readonly capacity: number
  /** How it stands, for people: workers and jobs. */
  describe(): string
  /** Takes back what is unfinished and removes all that the run put into Redis or the folder. */
  close(): Promise<void>
}

export interface JobWatch {
  readonly onProgress?: (done: number) => void
  readonly signal?: AbortSignal | undefined
  /** Whether the result is wanted by now; else it stays where it is. Default: always. */
  readonly isDue?: () => boolean
}

/** How long cleaning up may take when Redis does not answer. */
const CLOSE_MILLISECONDS = 5000

/**
 * Connects to Redis and announces a run there.
 *
 * @throws OptionError, UnsupportedError saying what to install, start or give
 */
export async function openCoordinator(options: CoordinatorOptions): Promise<Coordinator> {
  const { shared, timing = usualTiming } = options
  const packages = await loadQueue(options.redis)
  if (shared !== undefined) await requireFolder(shared)
  const name = queueName(await fingerprint(options.arithmetic), shared === undefined ? 'redis' : 'shared')
  const redis = await connectOrThrow(packages, options.redis)
  // what others left is no reason to fail
  await sweepQueues(packages, redis).catch(() => {})
  const id = randomUUID()
  const queue = new packages.bullmq.Queue(name, { connection: redis, prefix: PREFIX, skipVersionCheck: true })
  queue.on('error', () => {})
  const blobs = shared === undefined ? redisBlobs(redis, PREFIX, id) : folderBlobs(shared, id)
  const state: CoordinatorState = {
    id,
    queue,
    blobs,
    open: new Set(),
    pending: new Map(),
    uses: new Map(),
    sent: new WeakMap(),
    present: new Set(),
  }
  const watch = watchJobs(state, timing, redis, name, shownUrl(options.redis))
  await watch.announce()
  const keeper = await startLockKeeper(options.redis, runKey(id), timing)
  return {
    run: (kind, input, { onProgress, signal, isDue = () => true }) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(new AbortedError(undefined, signal.reason))
        const abort = () =>
          finishJob(state, job, () => job.reject(new AbortedError(undefined, signal?.reason)))
        const settle = (end: () => void) => {
          state.open.delete(job)
          signal?.removeEventListener('abort', abort)
          end()
        }
        const job: Pending = {
          kind,
          input,
          attempts: 0,
          blobs: [],
          job: undefined,
          ended: false,
          progress: 0,
          onProgress,
          isDue,
          resolve: (value) => settle(() => resolve(value)),
          reject: (error) => settle(() => reject(error)),
        }
        signal?.addEventListener('abort', abort, { once: true })
        state.open.add(job)
        submit(state, job)
      }),
    capacity: blobs.capacity,
    workers: () => watch.fitting().length,
    describe: () => watch.describe(),
    async close() {
      watch.stop()
      await keeper.close()
      const patience = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_MILLISECONDS).unref())
      await Promise.race([cleanUp(state, name, redis), patience])
      redis.disconnect()
    },
  }
}

async function requireFolder(folder: string): Promise<void> {
  try {
    await access(folder)
    await sweepFolder(folder)
  } catch {
    throw new OptionError('shared', `the folder ${folder} is not there; expected one that all machines see`)
  }
}

async function cleanUp(
  { id, queue, blobs, pending }: CoordinatorState,
  name: string,
  redis: Redis,
): Promise<void> {
  // workers stop what they do for a run that is gone
  await redis.unlink(runKey(id)).catch(() => {})
  const jobs = Array.from(pending.values(), ({ job }) => job?.remove().catch(() => {}))
  await Promise.all(jobs)
  await blobs.clear().catch(() => {})
  await sweepQueue(name, queue, redis).catch(() => {})
  await queue.close().catch(() => {})
}

/** Looks at the jobs, says that the run lives, and knows the workers, again and again. */
function watchJobs(state: CoordinatorState, timing: Timing, redis: Redis, name: string, url: string) {
  const { open, pending, blobs, uses, id } = state
  let workers: WorkerRecord[] = []
  let alone = Date.now()
  let lost: number | undefined
  let kept = Date.now()
  const fitting = () => workers.filter(({ queues }) => queues.includes(name))

  const announce = async () => {
    await redis.set(runKey(id), '1', 'EX', lifetime(timing))
    workers = await presentWorkers(redis)
    if (fitting().length > 0) alone = Date.now()
    if (Date.now() - kept > KEEP_MILLISECONDS) {
      kept = Date.now()
      await blobs.keepAlive(uses.keys())
    }
  }
  const look = async () => {
    // those behind one that cannot be looked at have their turn all the same
    for (const job of [...pending.values()]) await pollJob(state, job).catch(() => {})
  }
  const fail = (error: Error) => {
    for (const job of [...open]) finishJob(state, job, () => job.reject(error))
  }
  const notice = () => {
    const now = Date.now()
    lost = redis.status === 'ready' ? undefined : (lost ?? now)
    if (lost !== undefined && now - lost > timing.patience) {
      fail(
        new UnsupportedError(`Redis at ${url} has not answered for ${seconds(now - lost)}: is it running?`),
      )
    }
    for (const job of open) job.onProgress?.(job.progress)
    if (open.size > 0 && fitting().length === 0 && now - alone > timing.patience) {
      fail(new UnsupportedError(`no worker for ${seconds(now - alone)}: ${describe()}`))
    }
  }
  const describe = () => {
    const fit = fitting()
    const busy = fit.filter((worker) => worker.busy).length
    if (lost !== undefined) return `waiting for Redis at ${url}`
    if (fit.length > 0) return `${count(fit.length, 'worker')}, ${busy} busy, ${count(open.size, 'job')}`
    const others = workers.map(
      ({ host, version, node, queues }) => `${host} (${version}, Node ${node}, ${queues[0]})`,
    )
    const unfit = others.length > 0 ? `; those that are there compute otherwise: ${others.join(', ')}` : ''
    return `waiting for a worker that computes as ${name} (start one with gptvq worker)${unfit}`
  }
  const loops = [
    repeat(timing.heartbeat, announce),
    repeat(timing.poll, look),
    repeat(Math.min(1000, timing.patience), async () => notice()),
  ]
  const stop = () => {
    for (const end of loops) end()
  }
  return { announce, fitting, describe, stop }
}

/** How often blobs are asked to last on. */
const KEEP_MILLISECONDS = 600_000

const seconds = (milliseconds: number) => `${Math.max(1, Math.round(milliseconds / 1000))} seconds`
const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`
