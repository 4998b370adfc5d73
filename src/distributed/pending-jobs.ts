import { randomUUID } from 'node:crypto'
import { GptvqError, UnsupportedError } from '../common/errors.js'
import { fromJson, toJson } from './arrays-in-json.js'
import { BLOB_SECONDS, BlobError, type Blobs } from './blobs.js'
import { unpackError } from './carried-errors.js'
import type { BullMq, QueuedJob } from './connection.js'
import { type JobInput, type JobKind, jobName } from './jobs.js'
import { isJobResult, MOST_STALLED } from './protocol.js'

/** A job that waits for its result. All of its input stays here until then, so that it can be sent again. */
export interface Pending {
  readonly kind: JobKind
  readonly input: JobInput
  /** How often it has failed by no fault of the work. */
  attempts: number
  /** What its input lies in. */
  blobs: string[]
  job: QueuedJob | undefined
  /** Nobody waits any more. */
  ended: boolean
  /** Share of the work done, as last heard. */
  progress: number
  readonly onProgress: ((done: number) => void) | undefined
  /** Whether somebody takes the result by now. */
  readonly isDue: () => boolean
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
}

/** What the parts of a coordinator share. */
export interface CoordinatorState {
  readonly id: string
  readonly queue: InstanceType<BullMq['Queue']>
  readonly blobs: Blobs
  /** All that somebody waits for. */
  readonly open: Set<Pending>
  /** Those that are in the queue, by their ids there. */
  readonly pending: Map<string, Pending>
  /** How many jobs need each blob. */
  readonly uses: Map<string, number>
  /** Arrays that were sent, by their buffer and place in it. */
  readonly sent: WeakMap<ArrayBufferLike, Map<string, Promise<string>>>
  /** Those of their blobs that were not removed since. */
  readonly present: Set<string>
}

/** Tries before a job that fails by no fault of the work is given up. */
const MOST_ATTEMPTS = 5

/** Puts a job's tensors where workers find them, and the job into the queue; the job fails where that cannot be. */
export async function submit(state: CoordinatorState, job: Pending, anew = false): Promise<void> {
  const { queue, id, pending } = state
  const blobs = new Set<string>()
  try {
    const input = await toJson(job.input, async (bytes) => {
      const hash = await putOnce(state, bytes, anew)
      if (!blobs.has(hash)) state.uses.set(hash, (state.uses.get(hash) ?? 0) + 1)
      blobs.add(hash)
      return hash
    })
    const data = { run: id, kind: job.kind, input }
    const options = { jobId: randomUUID(), removeOnComplete: EXPIRES, removeOnFail: EXPIRES }
    const added = await queue.add(job.kind, data, options)
    const before = job.blobs
    Object.assign(job, { blobs: [...blobs], job: added })
    if (job.ended) finishJob(state, job, () => {})
    else pending.set(added.id!, job)
    await release(state, before)
  } catch (error) {
    const isOurs = error instanceof GptvqError
    const reason = isOurs ? error : new UnsupportedError(`Redis refuses a job: ${(error as Error).message}`)
    job.blobs = [...job.blobs, ...blobs]
    finishJob(state, job, () => job.reject(reason))
  }
}

const EXPIRES = { age: BLOB_SECONDS }

/** Arrays are hashed and sent once however many jobs need them, as a Hessian is by several layers. */
async function putOnce(
  { sent, present, blobs }: CoordinatorState,
  bytes: Uint8Array,
  anew: boolean,
): Promise<string> {
  const ofBuffer = sent.get(bytes.buffer) ?? new Map<string, Promise<string>>()
  sent.set(bytes.buffer, ofBuffer)
  const range = `${bytes.byteOffset}+${bytes.byteLength}`
  const known = anew ? undefined : ofBuffer.get(range)
  if (known && present.has(await known)) return known
  const hash = blobs.put(bytes, { anew }).then((put) => {
    present.add(put)
    return put
  })
  ofBuffer.set(range, hash)
  try {
    return await hash
  } catch (error) {
    ofBuffer.delete(range)
    throw error
  }
}

/** Gives blobs up; those that no other job needs are removed. */
async function release(state: CoordinatorState, hashes: readonly string[]): Promise<void> {
  const { uses, blobs } = state
  for (const hash of hashes) {
    const left = (uses.get(hash) ?? 1) - 1
    if (left > 0) uses.set(hash, left)
    else {
      uses.delete(hash)
      state.present.delete(hash)
      await blobs.remove(hash)
    }
  }
}

/** Ends the wait for a job. */
export function finishJob(state: CoordinatorState, job: Pending, end: () => void): void {
  job.ended = true
  if (job.job) {
    state.pending.delete(job.job.id!)
    job.job.remove().catch(() => {})
  }
  release(state, job.blobs).catch(() => {})
  job.blobs = []
  end()
}

/** Looks how a job is, and goes on from there. */
export async function pollJob(state: CoordinatorState, job: Pending): Promise<void> {
  // the state first: of a job that is done in between, what was read before has no result
  const current = await state.queue.getJobState(job.job!.id!)
  const found = await state.queue.getJob(job.job!.id!)
  if (!state.pending.has(job.job!.id!)) return
  if (found === undefined || current === 'unknown') {
    // Redis lost it, as one does that was started anew without its file
    return again(state, job)
  }
  if (typeof found.progress === 'number') job.progress = found.progress
  if (current === 'failed') {
    if (found.stalledCounter > MOST_STALLED) return finishJob(state, job, () => job.reject(stalled(job)))
    return retry(state, job, found.failedReason ?? 'for no reason given')
  }
  if (current !== 'completed' || !job.isDue()) return
  const result = found.returnvalue
  if (!isJobResult(result)) return retry(state, job, `its result cannot be read: ${shown(result)}`)
  if (result.status === 'dropped') return again(state, job)
  if (result.status === 'error') return finishJob(state, job, () => job.reject(unpackError(result)))
  let value: unknown
  try {
    value = await fromJson(result.output, (name) => state.blobs.get(name))
  } catch (error) {
    if (error instanceof BlobError) return retry(state, job, error.message)
    // of the JSON; all else is Redis, which is asked again
    if (!(error instanceof SyntaxError || error instanceof TypeError || error instanceof RangeError))
      throw error
    return retry(state, job, `its result cannot be read: ${error.message}`)
  }
  for (const name of result.blobs) await state.blobs.remove(name)
  // what comes next may need the room
  const { blobs } = job
  job.blobs = []
  await release(state, blobs)
  finishJob(state, job, () => job.resolve(value))
}

const shown = (value: unknown) => String(JSON.stringify(value)).slice(0, 100)

async function retry(state: CoordinatorState, job: Pending, reason: string): Promise<void> {
  job.attempts++
  if (job.attempts < MOST_ATTEMPTS) return again(state, job)
  const error = new UnsupportedError(
    `the job '${job.kind}' of ${jobName(job.input)} failed ${MOST_ATTEMPTS} times; the reason given last: ${reason}`,
  )
  finishJob(state, job, () => job.reject(error))
}

function stalled({ kind, input }: Pending): UnsupportedError {
  return new UnsupportedError(
    `the job '${kind}' of ${jobName(input)} was lost by ${MOST_STALLED + 1} workers, each of which ended or did not answer ` +
      'while it had it. See why on their machines: one that is short of memory is killed (start workers where there ' +
      'is more), one that takes ten minutes for a step counts as hung (start faster ones, or with more threads)',
  )
}

/** Sends everything a job needs once more, tensors too: they may be gone or damaged. */
async function again(state: CoordinatorState, job: Pending): Promise<void> {
  state.pending.delete(job.job!.id!)
  await job.job!.remove().catch(() => {})
  await submit(state, job, true)
}
