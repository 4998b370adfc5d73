import { randomUUID } from 'node:crypto'
import { access } from 'node:fs/promises'
import { hostname } from 'node:os'
import { type OptionNames, refuseUnknown, requirePath } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import { setThreads } from '../kernels/kernels.js'
import { type ProductsName, startProducts } from '../kernels/native/start-products.js'
import { packageVersion } from '../pipeline/folders/package-version.js'
import { type Blobs, folderBlobs, redisBlobs } from './blobs.js'
import { connectOrThrow, loadQueue, type QueuedJob, type Redis } from './connection.js'
import { type Arithmetic, fingerprint, possibleBuilds, useArithmetic } from './fingerprint.js'
import { type InputCache, inputCache } from './input-cache.js'
import type { WorkerEvent } from './jobs.js'
import { type LockKeeper, startLockKeeper } from './lock-keeper.js'
import {
  type JobResult,
  lifetime,
  MOST_STALLED,
  PREFIX,
  queueName,
  runKey,
  type Timing,
  usualTiming,
  workerKey,
} from './protocol.js'
import { repeat } from './repeat.js'
import { doJob } from './work.js'

/** Where a worker finds its jobs. */
export interface WorkerOptions {
  /** `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]`, `rediss://` for TLS. Never logged. */
  redis: string
  /** The folder that the coordinators' tensors are in, as this machine sees it; default: they come through Redis only. */
  shared?: string
  /** Takes jobs of runs with these products: default `'wasm'`. */
  products?: ProductsName
  /** Threads of the kernels, for the whole process from now on; default `GPTVQ_THREADS`, else the cores there are. */
  threads?: number
  /** Told when a job begins or ends. */
  onJob?: (event: WorkerEvent) => void
  /** @internal */
  timing?: Timing
}

/** A worker that takes jobs until it is closed. */
export interface RunningWorker {
  /** The queues it takes jobs of: how it computes, and where tensors are. */
  readonly queues: readonly string[]
  /** Gives back the job at work, if any, to be done elsewhere, and ends the connection. */
  close(): Promise<void>
}

const optionNames: OptionNames<WorkerOptions> = {
  redis: true,
  shared: true,
  products: true,
  threads: true,
  onJob: true,
  timing: true,
}

/** What jobs had in common is kept for so long after the last. */
const FORGET_MILLISECONDS = 60_000

/**
 * Takes jobs of `quantizeModel({ redis })` from a Redis server, one at a time, until it is closed. Only jobs of runs that
 * compute alike are taken: the same version of this package and major version of Node, and the same bits of products,
 * which is found out beforehand. So it does not matter for the result who does a job, or how often one is begun.
 *
 * @throws OptionError; UnsupportedError when Redis cannot be reached or a package is missing, saying what to do
 */
export async function startWorker(options: WorkerOptions): Promise<RunningWorker> {
  refuseUnknown(options, optionNames)
  const { shared, timing = usualTiming, threads } = options
  if (threads !== undefined) setThreads(threads)
  const packages = await loadQueue(options.redis)
  if (shared !== undefined) await requireShared(shared)
  const arithmetics = await possibleArithmetics(options.products)
  const redis = await connectOrThrow(packages, options.redis)
  const id = randomUUID()
  const keeper = await startLockKeeper(options.redis, workerKey(id), timing)
  const taking: Taking = {
    redis,
    keeper,
    shared,
    timing,
    onJob: options.onJob,
    cache: inputCache(),
    arithmetic: undefined,
    forgetting: undefined,
    busy: undefined,
    ended: false,
    turn: Promise.resolve(),
  }
  const queues: string[] = []
  const connections: Redis[] = [redis]
  const workers: { close(force?: boolean): Promise<void> }[] = []
  for (const [name, arithmetic] of arithmetics) {
    for (const place of shared === undefined ? (['redis'] as const) : (['redis', 'shared'] as const)) {
      const queue = queueName(name, place)
      queues.push(queue)
      const connection = packages.connect()
      connections.push(connection)
      const worker = new packages.bullmq.Worker(queue, (job) => takeJob(taking, arithmetic, place, job), {
        connection,
        prefix: PREFIX,
        concurrency: 1,
        lockDuration: timing.lock,
        stalledInterval: timing.stalled,
        maxStalledCount: MOST_STALLED,
      })
      worker.on('error', () => {})
      workers.push(worker)
    }
  }
  const version = await packageVersion()
  const announce = async () => {
    const record = { host: hostname(), pid: process.pid, version, node: process.versions.node, queues }
    const text = JSON.stringify({ ...record, busy: taking.busy !== undefined })
    await redis.set(workerKey(id), text, 'EX', lifetime(timing))
  }
  await announce()
  const stop = repeat(timing.heartbeat, announce)
  return {
    queues,
    async close() {
      stop()
      taking.ended = true
      taking.busy?.abort()
      await Promise.all(workers.map((worker) => worker.close().catch(() => {})))
      await keeper.close()
      await redis.unlink(workerKey(id)).catch(() => {})
      for (const connection of connections) connection.disconnect()
    },
  }
}

async function requireShared(folder: string): Promise<void> {
  requirePath('shared', folder)
  await access(folder).catch(() => {
    throw new OptionError(
      'shared',
      `the folder ${folder} is not there; expected the one that the coordinator has`,
    )
  })
}

async function possibleArithmetics(asked: ProductsName | undefined): Promise<[string, Arithmetic][]> {
  const products = (await startProducts(asked)) === 'wasm' ? 'wasm' : 'blas'
  const possible: [string, Arithmetic][] = []
  for (const build of [...possibleBuilds()].reverse()) {
    const arithmetic = { build, products } as const
    possible.push([await fingerprint(arithmetic), arithmetic])
  }
  return possible
}

/** What the jobs of a worker share. */
interface Taking {
  readonly redis: Redis
  readonly keeper: LockKeeper
  readonly shared: string | undefined
  readonly timing: Timing
  readonly onJob: WorkerOptions['onJob']
  readonly cache: InputCache
  /** How the last job was computed. */
  arithmetic: Arithmetic | undefined
  /** Clears the cache of a worker that has had no job for a while. */
  forgetting: NodeJS.Timeout | undefined
  /** Stops the job at work. */
  busy: AbortController | undefined
  ended: boolean
  /** Jobs of several queues are done one after the other. */
  turn: Promise<unknown>
}

function takeJob(
  taking: Taking,
  arithmetic: Arithmetic,
  place: 'redis' | 'shared',
  job: QueuedJob,
): Promise<JobResult> {
  const release = taking.keeper.hold(job)
  const done = taking.turn.then(() => inTurn(taking, arithmetic, place, job)).finally(release)
  taking.turn = done.catch(() => {})
  return done
}

async function inTurn(
  taking: Taking,
  arithmetic: Arithmetic,
  place: 'redis' | 'shared',
  job: QueuedJob,
): Promise<JobResult> {
  const { redis, shared, timing, onJob } = taking
  const { run } = job.data
  const lives = async () => (await redis.get(runKey(run))) !== null
  if (taking.ended) return { status: 'dropped' }
  if (!(await lives())) return droppedForGood(job)
  const blobs: Blobs = place === 'redis' ? redisBlobs(redis, PREFIX, run) : folderBlobs(shared!, run)
  const stopping = new AbortController()
  taking.busy = stopping
  const stopWatch = repeat(timing.heartbeat, async () => {
    if (!(await lives())) stopping.abort()
  })
  const start = performance.now()
  const tell = (what: string, state: WorkerEvent['state']) => {
    const seconds = (performance.now() - start) / 1000
    onJob?.({ job: what, state, ...(state !== 'begun' && { seconds }) })
  }
  try {
    await useArithmetic(arithmetic)
    clearTimeout(taking.forgetting)
    // factors are those of the build that made them
    if (taking.arithmetic !== arithmetic) taking.cache.clear()
    taking.arithmetic = arithmetic
    const result = await doJob(job, blobs, taking.cache, stopping.signal, tell)
    return result.status === 'dropped' && !taking.ended ? droppedForGood(job) : result
  } finally {
    stopWatch()
    taking.busy = undefined
    taking.forgetting = setTimeout(() => taking.cache.clear(), FORGET_MILLISECONDS).unref()
  }
}

/** Of a run that is gone: nobody removes the job if not its queue. */
function droppedForGood({ opts }: QueuedJob): JobResult {
  opts.removeOnComplete = true
  return { status: 'dropped' }
}
